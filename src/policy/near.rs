//! What an author probably meant.

pub(super) use crate::text::{nearest, plain};

/// Whether a name is `known` with one slip in it, or written in another style. For places where other names are allowed
/// too, so that only what is hardly meant otherwise counts: short names are left alone, and so are several of one thing.
pub(super) fn is_slip(name: &str, known: &str) -> bool {
    const SHORT: usize = 7;
    let several = name.strip_suffix('s') == Some(known);
    let near = plain(name) == plain(known) || strsim::osa_distance(name, known) == 1;
    name != known && known.len() >= SHORT && near && !several
}
