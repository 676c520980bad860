//! Where profiles are pushed to, and in which form: `pyroscope+http://HOST:4040`,
//! `otlp+http://HOST:4318`.

use std::fmt;
use std::str::FromStr;

/// A server, and how it takes profiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands::watch) struct Address {
    pub(super) form: Form,
    /// `http://HOST:4040`, and the prefix below which the server answers.
    url: String,
}

/// How a server takes profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Pyroscope's ingest, with pprof.
    Pyroscope,
    /// OTLP over HTTP.
    Otlp,
}

const FORMS: [(&str, Form); 2] = [("pyroscope+", Form::Pyroscope), ("otlp+", Form::Otlp)];

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            let right = "--push pyroscope+http://HOST:4040, or --push otlp+http://HOST:4318";
            Err(format!("{why}\nhint: {right}"))
        };
        let form =
            FORMS.iter().find_map(|(prefix, form)| Some((text.strip_prefix(prefix)?, *form)));
        let Some((url, form)) = form else {
            return wrong("the URL does not say which kind of server it is");
        };
        let Some(host) = url.strip_prefix("http://") else {
            return match url.starts_with("https://") {
                true => wrong("pipeprof has no TLS: push to a proxy or collector on this machine"),
                false => wrong("not a URL of http"),
            };
        };
        if host.is_empty() || host.starts_with('/') {
            return wrong("the URL names no host");
        }
        if host.contains(['?', '#', ' ']) {
            return wrong("the URL may have a path, but neither a query nor a fragment");
        }
        Ok(Address { form, url: url.trim_end_matches('/').to_owned() })
    }
}

impl Address {
    /// Where the server takes profiles.
    pub(super) fn endpoint(&self) -> String {
        let path = match self.form {
            Form::Pyroscope => "ingest",
            Form::Otlp => "v1development/profiles",
        };
        format!("{}/{path}", self.url)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A password is nobody's business.
        match self.url.rsplit_once('@') {
            Some((_, host)) => write!(f, "http://{host}"),
            None => f.write_str(&self.url),
        }
    }
}

/// The name of this machine.
pub(super) fn host() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

/// What Pyroscope is to call the profiles: `pipeprof{watch=backup,host=db1}`.
pub(super) fn application(watch: &str) -> String {
    format!("pipeprof{{watch={},host={}}}", value(watch), value(&host()))
}

/// A value has no quotation marks, so that some characters would end it.
fn value(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
    let plain = text.chars().map(|c| if is_plain(c) { c } else { '_' });
    plain.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_the_server_and_its_kind() {
        let of = |text: &str| text.parse::<Address>().map(|address| address.endpoint());
        assert_eq!(of("pyroscope+http://h:4040"), Ok("http://h:4040/ingest".into()));
        assert_eq!(of("pyroscope+http://h/prefix/"), Ok("http://h/prefix/ingest".into()));
        let otlp = Ok("http://h:4318/v1development/profiles".into());
        assert_eq!(of("otlp+http://h:4318"), otlp);
        for (wrong, why) in [
            ("http://h:4040", "which kind"),
            ("pyroscope+https://h", "no TLS"),
            ("pyroscope+ftp://h", "not a URL of http"),
            ("pyroscope+http://", "no host"),
            ("pyroscope+http://h?a=b", "query"),
        ] {
            let error = of(wrong).unwrap_err();
            assert!(error.contains(why) && error.contains("pyroscope+http"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_message_shows_no_password() {
        let address: Address = "pyroscope+http://me:secret@h:4040".parse().unwrap();
        assert_eq!(address.to_string(), "http://h:4040");
    }

    #[test]
    fn a_label_can_not_end_early() {
        assert!(application("a,b={}").starts_with("pipeprof{watch=a_b___,host="));
    }
}
