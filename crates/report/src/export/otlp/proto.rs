//! The messages of OTLP profiles (`v1development`), as of opentelemetry-proto 1.9.
//!
//! Fields as in
//! <https://github.com/open-telemetry/opentelemetry-proto/blob/v1.9.0/opentelemetry/proto/profiles/v1development/profiles.proto>,
//! by hand, so that building needs no protoc. Those that pipeprof leaves empty are left out.

use prost::{Message, Oneof};

/// What a server takes.
#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    /// Whose profiles.
    #[prost(message, repeated, tag = "1")]
    pub resource_profiles: Vec<ResourceProfiles>,
    /// What they refer to.
    #[prost(message, optional, tag = "2")]
    pub dictionary: Option<Dictionary>,
}

/// What profiles refer to by place. The first of each is empty.
#[derive(Clone, PartialEq, Message)]
pub struct Dictionary {
    /// Objects that were mapped.
    #[prost(message, repeated, tag = "1")]
    pub mapping_table: Vec<Mapping>,
    /// Addresses.
    #[prost(message, repeated, tag = "2")]
    pub location_table: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "3")]
    pub function_table: Vec<Function>,
    /// Spans of traces, of which there are none.
    #[prost(message, repeated, tag = "4")]
    pub link_table: Vec<Link>,
    /// Strings.
    #[prost(string, repeated, tag = "5")]
    pub string_table: Vec<String>,
    /// Attributes.
    #[prost(message, repeated, tag = "6")]
    pub attribute_table: Vec<KeyValueAndUnit>,
    /// Stacks.
    #[prost(message, repeated, tag = "7")]
    pub stack_table: Vec<Stack>,
}

/// Profiles of one source.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceProfiles {
    /// The source.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// By what made them.
    #[prost(message, repeated, tag = "2")]
    pub scope_profiles: Vec<ScopeProfiles>,
}

/// A source of profiles.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// What it is.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// Profiles that one program made.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeProfiles {
    /// The program.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// One for each kind of value.
    #[prost(message, repeated, tag = "2")]
    pub profiles: Vec<Profile>,
}

/// What made a profile.
#[derive(Clone, PartialEq, Message)]
pub struct Scope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// A profile of one kind of value.
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    /// What the values are.
    #[prost(message, optional, tag = "1")]
    pub sample_type: Option<ValueType>,
    /// Stacks with their values.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// When it began, ns since 1970.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// How long it took.
    #[prost(uint64, tag = "4")]
    pub duration_nano: u64,
    /// What is between two samples.
    #[prost(message, optional, tag = "5")]
    pub period_type: Option<ValueType>,
    /// How much of it.
    #[prost(int64, tag = "6")]
    pub period: i64,
    /// 16 bytes by which it is known where it comes twice.
    #[prost(bytes = "vec", tag = "7")]
    pub profile_id: Vec<u8>,
}

/// A kind of value.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ValueType {
    /// What it is.
    #[prost(int32, tag = "1")]
    pub type_strindex: i32,
    /// In which unit.
    #[prost(int32, tag = "2")]
    pub unit_strindex: i32,
}

/// A stack with its value.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    /// Which stack.
    #[prost(int32, tag = "1")]
    pub stack_index: i32,
    /// Whose it is.
    #[prost(int32, repeated, tag = "2")]
    pub attribute_indices: Vec<i32>,
    /// One.
    #[prost(int64, repeated, tag = "4")]
    pub values: Vec<i64>,
}

/// An object.
#[derive(Clone, PartialEq, Message)]
pub struct Mapping {
    /// The lowest address.
    #[prost(uint64, tag = "1")]
    pub memory_start: u64,
    /// The address after the highest.
    #[prost(uint64, tag = "2")]
    pub memory_limit: u64,
    /// What lies at the lowest address.
    #[prost(uint64, tag = "3")]
    pub file_offset: u64,
    /// Its path.
    #[prost(int32, tag = "4")]
    pub filename_strindex: i32,
    /// Which build of it.
    #[prost(int32, repeated, tag = "5")]
    pub attribute_indices: Vec<i32>,
}

/// A stack.
#[derive(Clone, PartialEq, Message)]
pub struct Stack {
    /// Leaf first.
    #[prost(int32, repeated, tag = "1")]
    pub location_indices: Vec<i32>,
}

/// An address.
#[derive(Clone, PartialEq, Message)]
pub struct Location {
    /// Where it lies; 0 where unknown.
    #[prost(int32, tag = "1")]
    pub mapping_index: i32,
    /// The address; 0 where unknown.
    #[prost(uint64, tag = "2")]
    pub address: u64,
    /// The functions at it, innermost first.
    #[prost(message, repeated, tag = "3")]
    pub lines: Vec<Line>,
}

/// A function at an address.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Line {
    /// Which.
    #[prost(int32, tag = "1")]
    pub function_index: i32,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Function {
    /// Its name, for people.
    #[prost(int32, tag = "1")]
    pub name_strindex: i32,
    /// Its name, for linkers.
    #[prost(int32, tag = "2")]
    pub system_name_strindex: i32,
}

/// A span of a trace.
#[derive(Clone, PartialEq, Message)]
pub struct Link {
    /// The trace: 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// The span: 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
}

/// An attribute that is referred to.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValueAndUnit {
    /// Its key.
    #[prost(int32, tag = "1")]
    pub key_strindex: i32,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// The value of an attribute.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// One of several kinds.
    #[prost(oneof = "Value", tags = "1, 3")]
    pub value: Option<Value>,
}

/// A kind of value of an attribute.
#[derive(Clone, PartialEq, Oneof)]
pub enum Value {
    /// Text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A number.
    #[prost(int64, tag = "3")]
    Number(i64),
}
