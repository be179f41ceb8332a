//! Response classifiers: what counts as a success, and what is worth another try.

use balance::Outcome;
use http1::Method;

use crate::failure::Kind;
use crate::settings::Classifier;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Success,
    Failure,
    /// A failure that may be tried again.
    Retryable,
}

impl Class {
    #[inline]
    pub(crate) fn is_success(self) -> bool {
        self == Class::Success
    }

    #[inline]
    pub(crate) fn outcome(self) -> Outcome {
        if self.is_success() { Outcome::Success } else { Outcome::Failure }
    }
}

/// What a classifier looks at in a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub classifier: Classifier,
    pub method: Method,
    /// The body went on as it came, so it is not there any more.
    pub is_streamed: bool,
}

impl Asked {
    /// `says_retryable`: the answer carries `l5d-retryable: true`.
    #[inline]
    pub(crate) fn answered(self, status: u16, says_retryable: bool) -> Class {
        if !(500..600).contains(&status) || self.classifier == Classifier::AllSuccessful {
            return Class::Success;
        }
        self.failure(says_retryable || self.retries_method())
    }

    pub(crate) fn failed(self, kind: Kind) -> Class {
        self.failure(kind.is_retryable() && self.retries_method())
    }

    fn failure(self, retryable: bool) -> Class {
        if retryable && !self.is_streamed { Class::Retryable } else { Class::Failure }
    }

    fn retries_method(self) -> bool {
        match self.classifier {
            Classifier::NonRetryable5xx | Classifier::AllSuccessful => false,
            Classifier::RetryableRead5xx => self.method.is_safe(),
            Classifier::RetryableIdempotent5xx => self.method.is_idempotent(),
            Classifier::RetryableAll5xx => {
                self.method.is_idempotent() || matches!(self.method, Method::Post | Method::Patch)
            }
        }
    }
}
