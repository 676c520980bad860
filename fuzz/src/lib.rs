//! What the fuzz targets do with their bytes.

mod readers;

pub use readers::*;
