//! What a request is refused with: a status for programs on the way, and a code for the one who asked.

use crate::token::InvalidToken;
use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use std::borrow::Cow;
use tidewell_sync_core::code::Code;

/// A code, and what is wrong in particular.
#[derive(Debug)]
pub(super) struct Refusal {
    code: Code,
    message: Cow<'static, str>,
    /// When to ask again, if that is known.
    after_ms: Option<u64>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { code, message: message.into(), after_ms: None }
    }

    /// The relay has too much to do.
    pub(super) fn overloaded(after_ms: u64) -> Self {
        Refusal { after_ms: Some(after_ms), ..Code::Overloaded.into() }
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
        let retry_after = self.after_ms.map(|ms| [(header::RETRY_AFTER, ms.div_ceil(1000).to_string())]);
        (status, retry_after.map(AppendHeaders), body).into_response()
    }
}
