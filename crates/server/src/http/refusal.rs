//! What a request is refused with: a status for programs on the way, and a code for the one who asked.

use crate::token::InvalidToken;
use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
use tidewell_sync_core::code::Code;

/// A code, and what is wrong in particular.
#[derive(Debug)]
pub(super) struct Refusal {
    code: Code,
    message: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { code, message: message.into() }
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Refusal::new(code, code.help())
    }
}

impl From<InvalidToken> for Refusal {
    fn from(error: InvalidToken) -> Self {
        Refusal::new(error.code(), error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.code {
            Code::InvalidToken | Code::TokenExpired | Code::TokenRevoked => StatusCode::UNAUTHORIZED,
            Code::Forbidden | Code::OriginForbidden => StatusCode::FORBIDDEN,
            code if code.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        let body = Json(serde_json::json!({ "code": self.code.name(), "message": self.message }));
        if status == StatusCode::UNAUTHORIZED {
            let scheme: [(HeaderName, &str); 1] = [(header::WWW_AUTHENTICATE, "Bearer")];
            return (status, scheme, body).into_response();
        }
        (status, body).into_response()
    }
}
