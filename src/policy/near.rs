//! What somebody probably meant.

use crate::text::plain;

/// From here on two names are near: measured on what people mistype, not on what they mean.
const NEAR: f64 = 0.84;

/// The candidate whose spelling is nearest, if one is near at all.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|known| (closeness(name, known), known));
    let best = scored.filter(|(score, _)| *score >= NEAR);
    best.max_by(|(a, x), (b, y)| a.total_cmp(b).then_with(|| y.cmp(x))).map(|(_, known)| known)
}

fn closeness(name: &str, known: &str) -> f64 {
    if plain(name) == plain(known) { 1.0 } else { strsim::jaro_winkler(name, known) }
}

/// Whether a name is `known` with one slip in it, or written in another style. For places where other names are allowed
/// too, so that only what is hardly meant otherwise counts: short names are left alone, and so are several of one thing.
pub(super) fn is_slip(name: &str, known: &str) -> bool {
    const SHORT: usize = 7;
    let several = name.strip_suffix('s') == Some(known);
    let near = plain(name) == plain(known) || strsim::osa_distance(name, known) == 1;
    name != known && known.len() >= SHORT && near && !several
}
