//! Answers that may be kept: what does not change, or is known by a tag (RFC 9110 §8.8.3, §13.1.2).

use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::Body;

/// How long an answer is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// For ever: what is at this path never changes.
    Forever,
    /// Until it is asked for again, which an `If-None-Match` makes cheap.
    Checked,
    /// It is of the ledger's content, and nobody is to keep it; who has it already is told so all the same.
    Unkept,
}

/// An answer with a tag.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a> {
    /// Names this version of it.
    pub tag: &'a str,
    /// How long it is good.
    pub freshness: Freshness,
}

impl Cached<'_> {
    /// The answer: what `whole` makes, or 304 where the one who asks has it.
    pub fn response(self, asked: &HeaderMap, whole: impl FnOnce() -> Response<Body>) -> Response<Body> {
        let tag = format!("\"{}\"", self.tag);
        let mut response = if is_known(asked, &tag) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            whole()
        };
        let freshness = match self.freshness {
            Freshness::Forever => "private, max-age=31536000, immutable",
            Freshness::Checked => "private, no-cache",
            Freshness::Unkept => "no-store",
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(freshness));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }
}

/// Whether `If-None-Match` lists the tag. Tags are compared weakly: `W/` makes no difference.
fn is_known(asked: &HeaderMap, tag: &str) -> bool {
    let lists = asked.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_version_is_not_sent_again() {
        let cached = Cached { tag: "sha256:ab", freshness: Freshness::Checked };
        let status = |known: &'static str| {
            let asked = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(known))]);
            cached.response(&asked, || Response::new(Body::whole("x"))).status()
        };
        for known in ["\"sha256:ab\"", "\"a\", \"sha256:ab\"", "W/\"sha256:ab\"", "*"] {
            assert_eq!(status(known), 304, "{known}");
        }
        for known in ["\"sha256:abc\"", "sha256:ab", "", "\"a\",\"b\""] {
            assert_eq!(status(known), 200, "{known}");
        }
    }
}
