//! Versions: opaque to clients, who see base64 and compare for equality only.

use std::fmt;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// One of the versions of a namespace. `Display` is the base64 of eight bytes, as in an ETag:
/// `AAAAAAAAAAE=` is the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version(u64);

/// A text that is not base64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version: versions are base64, as in the ETag of the dtab")]
pub struct NotAVersion(pub String);

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl Version {
    pub const FIRST: Version = Version(1);

    /// Its place in the order of the namespace's versions, from 1.
    pub fn number(self) -> u64 {
        self.0
    }

    pub fn from_number(number: u64) -> Version {
        Version(number)
    }

    /// The one after this.
    pub fn next(self) -> Version {
        Version(self.0 + 1)
    }

    /// Reads shown text as the original does (a MIME decoder): characters outside the alphabet are
    /// skipped, padding is optional. `None`: base64, but never a version of this store.
    ///
    /// # Errors
    /// Where the rest is no base64.
    pub fn decode(text: &str) -> Result<Option<Version>, NotAVersion> {
        let kept: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c)).collect();
        let bytes = ENGINE.decode(&kept).map_err(|_| NotAVersion(text.to_owned()))?;
        Ok(<[u8; 8]>::try_from(bytes).ok().map(|bytes| Version(u64::from_be_bytes(bytes))))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ENGINE.encode(self.0.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_a_mime_decoder_does() {
        let cases = [
            ("AAAAAAAAAAE=", Ok(Some(Version::FIRST))),
            ("AAAAAAAAAAE", Ok(Some(Version::FIRST))),
            ("\"AAAAAAAAAAE=\"", Ok(Some(Version::FIRST))),
            (" AAAAAAA\nAAAE= ", Ok(Some(Version::FIRST))),
            ("AAAAAAAAAQA=", Ok(Some(Version(256)))),
            ("yolo", Ok(None)),
            ("", Ok(None)),
            ("*", Ok(None)),
            ("a", Err(NotAVersion("a".into()))),
            ("AAAAAAAAAAE=AAAA", Err(NotAVersion("AAAAAAAAAAE=AAAA".into()))),
        ];
        for (text, expected) in cases {
            assert_eq!(Version::decode(text), expected, "{text}");
        }
    }

    #[test]
    fn a_version_reads_back_what_it_shows() {
        for version in [1, 2, 255, 256, u64::MAX].map(Version) {
            assert_eq!(Version::decode(&version.to_string()), Ok(Some(version)));
        }
    }
}
