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
    /// The status of those who shall ask again, and when.
    again: Option<(StatusCode, u64)>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { code, message: message.into(), again: None }
    }

    /// The relay has too much to do.
    pub(super) fn overloaded(after_ms: u64) -> Self {
        Refusal { again: Some((StatusCode::SERVICE_UNAVAILABLE, after_ms)), ..Code::Overloaded.into() }
    }

    /// This one asks too often.
    pub(super) fn too_often(after_ms: u64) -> Self {
        let message = "requests come too fast from this address";
        let again = Some((StatusCode::TOO_MANY_REQUESTS, after_ms));
        Refusal { again, ..Refusal::new(Code::Overloaded, message) }
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
        let status = match (self.again, self.code) {
            (Some((status, _)), _) => status,
            (None, Code::InvalidToken | Code::TokenExpired | Code::TokenRevoked) => StatusCode::UNAUTHORIZED,
            (None, Code::Forbidden | Code::OriginForbidden) => StatusCode::FORBIDDEN,
            (None, code) if code.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        let mut body = serde_json::json!({ "code": self.code.name(), "message": self.message });
        if status == StatusCode::UNAUTHORIZED {
            let scheme: [(HeaderName, &str); 1] = [(header::WWW_AUTHENTICATE, "Bearer")];
            return (status, scheme, Json(body)).into_response();
        }
        // Pages of other origins see the body, and not the header.
        let retry_after = self.again.map(|(_, after_ms)| {
            body["after_ms"] = after_ms.into();
            [(header::RETRY_AFTER, after_ms.div_ceil(1000).to_string())]
        });
        (status, retry_after.map(AppendHeaders), Json(body)).into_response()
    }
}
