//! The one parse error, with the original's text.

/// `E expected but F found at 'CTX'`: the text reaches HTTP clients and is part of the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// The whole text, as the original shows it.
    pub message: String,
}
