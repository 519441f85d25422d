//! The tree as C2SP `tlog-tiles` publishes it, below `/v1/tlog/` on the admin plane: `checkpoint`, `tile/<L>/<N>` and
//! `tile/entries/<N>`.
//!
//! Hashes say nothing about anybody: those reads are not entries. Leaves name requests: those are.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};

use super::audit::{blocking, unreadable};
use crate::digest::sha256;
use crate::ledger::Reader;
use crate::text::truncated;
use crate::tlog::tiles::Tile;
use crate::web::cached::{Cached, Freshness};
use crate::web::{Body, Problem, Visit};

/// The prefix of the log.
pub const PREFIX: &str = "/v1/tlog/";

/// Answers the rest of the path after [`PREFIX`].
pub async fn answer(reader: &Reader, path: &str, headers: &HeaderMap, visit: &Visit) -> Response<Body> {
    let shown = truncated(path, 64);
    let Some(tile) = Tile::parse(path) else {
        let detail =
            format!("`{shown}` is not the path of a tile, as `tile/0/x001/234` or `tile/entries/000.p/17`");
        return Problem::not_found(detail, visit).response();
    };
    let freshness = if tile.level.is_some() {
        Freshness::Forever
    } else {
        visit.look("ledger.read", PREFIX, path);
        Freshness::Unkept
    };
    match blocking(reader, visit, move |reader| reader.tile(tile)).await {
        Ok(Some(bytes)) => Cached { tag: &sha256(&bytes), freshness }.response(headers, || {
            let mut response = Response::new(Body::whole(bytes));
            let format = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }),
        Ok(None) => {
            let detail = format!(
                "the tree does not have all of `{shown}` yet; `{PREFIX}checkpoint` says how large it is"
            );
            Problem::not_found(detail, visit).response()
        }
        Err(error) => unreadable(&error, visit),
    }
}

/// Whether a path is that of a tile of hashes, which says nothing about anybody.
#[must_use]
pub fn is_of_hashes(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|rest| rest == "checkpoint" || !rest.starts_with("tile/entries/"))
}
