//! Collections that keep the order in which their keys came: sums by key, values by number.

use indexmap::{IndexMap, IndexSet};
use rustc_hash::FxBuildHasher;

/// A map in the order in which its keys came.
pub(crate) type OrderedMap<K, V> = IndexMap<K, V, FxBuildHasher>;

/// Values each with a number, by the order in which they came.
pub(crate) type OrderedSet<T> = IndexSet<T, FxBuildHasher>;
