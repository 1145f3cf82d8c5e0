//! The files of a web page, served from one folder and from nowhere else.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use thiserror::Error;

/// A folder of files.
#[derive(Debug, Clone)]
pub(crate) struct Assets {
    /// Absolute, without symbolic links.
    root: PathBuf,
}

/// A folder that cannot be served.
#[derive(Debug, Error)]
#[error("--assets {}: {source}", path.display())]
pub struct AssetsError {
    /// As it was given.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl Assets {
    pub(crate) fn new(path: &Path) -> Result<Self, AssetsError> {
        let failed = |source| AssetsError { path: path.to_owned(), source };
        let root = path.canonicalize().map_err(failed)?;
        if root.is_dir() {
            Ok(Assets { root })
        } else {
            Err(failed(io::Error::new(io::ErrorKind::NotADirectory, "not a directory")))
        }
    }

    pub(crate) async fn answer(&self, request: &Parts) -> Response {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return (StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.\n").into_response();
        }
        let Some(relative) = safe_path(request.uri.path()) else { return not_found() };
        let root = self.root.clone();
        // A panic or an end of the runtime leaves nothing to serve.
        let found = tokio::task::spawn_blocking(move || read(&root, &relative)).await;
        let Ok(Some(file)) = found else { return not_found() };
        let is_known = request
            .headers
            .get(header::IF_NONE_MATCH)
            .is_some_and(|known| known.as_bytes() == file.tag.as_bytes());
        let body =
            if is_known || request.method == Method::HEAD { Body::empty() } else { Body::from(file.content) };
        let mut response = Response::new(body);
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
        // Always asked about again, and cheap to answer: a page never mixes two builds.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(tag) = HeaderValue::from_str(&file.tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

struct File {
    content: Vec<u8>,
    content_type: &'static str,
    tag: String,
}

fn read(root: &Path, relative: &Path) -> Option<File> {
    let mut path = root.join(relative).canonicalize().ok()?;
    if path.is_dir() {
        path = path.join("index.html").canonicalize().ok()?;
    }
    // A symbolic link may lead out.
    if !path.starts_with(root) {
        return None;
    }
    let metadata = path.metadata().ok()?;
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let tag = format!("\"{:x}-{:x}\"", metadata.len(), modified.as_nanos());
    let content_type = content_type(&path);
    Some(File { content: std::fs::read(path).ok()?, content_type, tag })
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "There is nothing here.\n").into_response()
}

/// The path of a URL as one below the root, or `None` when it is anything else.
fn safe_path(url_path: &str) -> Option<PathBuf> {
    let decoded = percent_decoded(url_path)?;
    let mut path = PathBuf::new();
    for segment in decoded.split('/').filter(|segment| !segment.is_empty()) {
        // Hidden files are nobody's business; `..` is among them.
        if segment.starts_with('.') || segment.contains(['\\', ':', '\0']) {
            return None;
        }
        path.push(segment);
    }
    Some(path)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let code = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
            bytes.push(u8::try_from(code).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("wasm") => "application/wasm",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("webmanifest") => "application/manifest+json",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(assets: &Assets, path: &str, tag: Option<&str>) -> Response {
        let mut request = axum::http::Request::builder().uri(path);
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        assets.answer(&request.body(()).unwrap().into_parts().0).await
    }

    fn page() -> (tempfile::TempDir, Assets) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("page");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("index.html"), "<p>").unwrap();
        std::fs::write(root.join("core.wasm"), "\0asm").unwrap();
        std::fs::write(root.join(".secret"), "no").unwrap();
        std::fs::write(folder.path().join("outside.txt"), "no").unwrap();
        std::os::unix::fs::symlink(folder.path().join("outside.txt"), root.join("link.txt")).unwrap();
        let assets = Assets::new(&root).unwrap();
        (folder, assets)
    }

    #[tokio::test]
    async fn files_come_with_their_types_and_are_not_sent_twice() {
        let (_folder, assets) = page();
        let response = get(&assets, "/core.wasm", None).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/wasm");
        let tag = response.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(get(&assets, "/core.wasm", Some(&tag)).await.status(), StatusCode::NOT_MODIFIED);
        let index = get(&assets, "/", None).await;
        assert_eq!(index.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    }

    #[tokio::test]
    async fn nothing_outside_the_folder_is_served() {
        let (_folder, assets) = page();
        let paths = [
            "/../outside.txt",
            "/%2e%2e/outside.txt",
            "/sub/..%2f..%2foutside.txt",
            "/..%5coutside.txt",
            "/link.txt",
            "/.secret",
            "/%00",
            "/%zz",
            "/%ff",
            "/missing",
            "/sub",
        ];
        for path in paths {
            assert_eq!(get(&assets, path, None).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_refused_at_the_start() {
        assert!(Assets::new(Path::new("not/there")).is_err());
    }
}
