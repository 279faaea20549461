//! What layers are packed with on their way out.
//!
//! Pure data. Invariant: two packings have the same label only if they make the same bytes.

use crate::image::manifest::media_type;
use crate::layer::compress::{Compression, Format};

/// How a layer leaves the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Its archive as a stream.
    Stream(Compression),
    /// eStargz: a gzip stream with a table of contents, which makes it another layer.
    Estargz {
        /// From 0 to 9, as gzip's.
        level: u32,
    },
}

impl Packing {
    /// As it is.
    pub const NONE: Self = Self::Stream(Compression::None);
    /// gzip at the usual level.
    pub const GZIP: Self = Self::Stream(Compression::GZIP);
    /// zstd at the usual level.
    pub const ZSTD: Self = Self::Stream(Compression::ZSTD);
    /// eStargz at gzip's usual level.
    pub const ESTARGZ: Self = Self::Estargz { level: 5 };

    /// Returns what a reader sees that does not know about tables of contents.
    pub fn format(self) -> Format {
        match self {
            Self::Stream(compression) => compression.format(),
            Self::Estargz { .. } => Format::Gzip,
        }
    }

    /// Returns the layer's media type in OCI's dialect.
    pub fn media_type(self) -> &'static str {
        match self.format() {
            Format::None => media_type::OCI_LAYER,
            Format::Gzip => media_type::OCI_LAYER_GZIP,
            Format::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }

    /// Tells whether Docker's dialect has no words for it.
    pub fn is_oci_only(self) -> bool {
        matches!(
            self,
            Self::Stream(Compression::Zstd { .. }) | Self::Estargz { .. }
        )
    }

    /// Returns the name among a layer's variants.
    pub fn label(self) -> String {
        match self {
            Self::Stream(Compression::None) => "uncompressed".to_owned(),
            Self::Stream(Compression::Gzip { level }) => format!("gzip-{level}"),
            Self::Stream(Compression::Zstd { level }) => format!("zstd-{level}"),
            Self::Estargz { level } => format!("estargz-{level}"),
        }
    }
}
