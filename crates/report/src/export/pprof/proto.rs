//! The messages of pprof's profile.proto. Strings are indices into the string table.
//!
//! Fields as in <https://github.com/google/pprof/blob/main/proto/profile.proto>, by hand, so that
//! building needs no protoc. Those that pipeprof leaves empty are left out.

use prost::Message;

/// A profile.
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    /// What the values of a sample are.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// Stacks with their values.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Objects that were mapped.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Addresses.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All strings; the first is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// When it began, ns since 1970.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// How long it took.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What is between two samples.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// How much of it.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Text for people.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// The value to show first.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// A kind of value.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ValueType {
    /// What it is.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// In which unit.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// A stack with its values.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    /// Leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One for each type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// Whose it is.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A key and its value.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Label {
    /// The key.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// The value, where it is text.
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// The value, where it is a number.
    #[prost(int64, tag = "3")]
    pub num: i64,
}

/// An object.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Mapping {
    /// From 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The lowest address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// The address after the highest.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// What lies at the lowest address.
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    /// Its path.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Which build of it.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Its functions have been named.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Inlined functions have been named.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// An address.
#[derive(Clone, PartialEq, Message)]
pub struct Location {
    /// From 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Where it lies; 0 where unknown.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// The address; 0 where unknown.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// The functions at it, innermost first.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A function at an address.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Line {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Function {
    /// From 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name, for people.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Its name, for linkers.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
}
