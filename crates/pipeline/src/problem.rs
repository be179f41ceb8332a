//! Why a request is refused: status and the API's error object.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::api::ErrorAnswer;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", answer.error)]
pub(crate) struct Problem {
    pub status: StatusCode,
    pub answer: ErrorAnswer,
}

impl Problem {
    pub fn new(status: StatusCode, error: impl Into<String>) -> Problem {
        Problem { status, answer: ErrorAnswer { error: error.into(), field: None, holder: None } }
    }

    /// A field of the request, or a parameter, is wrong.
    pub fn field(field: &str, error: impl Into<String>) -> Problem {
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, error);
        problem.answer.field = Some(field.to_owned());
        problem
    }

    pub fn conflict(error: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, error)
    }

    pub fn held(error: impl Into<String>, holder: impl Into<String>) -> Problem {
        let mut problem = Problem::conflict(error);
        problem.answer.holder = Some(holder.into());
        problem
    }

    pub fn unknown_deploy(id: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, format!("there is no deploy {id:?}; GET /api/1/deploys lists them"))
    }

    /// Nothing is done that cannot be written down first.
    pub fn journal(error: &crate::journal::JournalError) -> Problem {
        let text = causes::chain(error);
        Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            format!("the journal cannot be written, so nothing was done: {text}. Make space, then try again"),
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.answer)).into_response()
    }
}
