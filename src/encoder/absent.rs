//! What stands in for the encoder in a build without the feature `encoder`: it cannot be loaded.

use std::path::Path;

use crate::error::{Error, Result};
use crate::model;

/// An encoder, of which there are none in this build.
pub enum Encoder {}

impl Encoder {
    /// A usage error that names the feature.
    pub fn load(_path: &Path, _device: model::Device) -> Result<Self> {
        Err(Error::usage("this build cannot load encoders; build with `--features encoder`"))
    }

    /// The folder's name.
    pub fn name(&self) -> &str {
        match *self {}
    }

    /// SHA-256 of the encoder's files.
    pub fn sha256(&self) -> &str {
        match *self {}
    }

    /// P(same meaning) of each pair.
    pub fn same(&self, _question: &str, _pairs: &[(String, String)]) -> Result<Vec<f64>> {
        match *self {}
    }
}
