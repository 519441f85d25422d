//! Where pieces of a tree are published, C2SP `tlog-tiles`: paths below a log's prefix.

/// Leaves of a full tile.
pub const TILE_WIDTH: u64 = 256;

/// `tile/<L>/<N>[.p/<W>]`: the tile of hashes at tile level `level`, with `width` hashes in it.
#[must_use]
pub fn hashes(level: u32, index: u64, width: u64) -> String {
    format!("tile/{level}/{}{}", number(index), partial(width))
}

/// `tile/entries/<N>[.p/<W>]`: the bundle of entries under the level-0 tile `index`.
#[must_use]
pub fn entries(index: u64, width: u64) -> String {
    format!("tile/entries/{}{}", number(index), partial(width))
}

/// Three digits an element, all but the last with an `x` before them: `x001/x234/067`.
fn number(index: u64) -> String {
    let mut path = format!("{:03}", index % 1_000);
    let mut rest = index / 1_000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1_000);
        rest /= 1_000;
    }
    path
}

fn partial(width: u64) -> String {
    if width < TILE_WIDTH { format!(".p/{width}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(hashes(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(hashes(0, 273, 256), "tile/0/273");
        assert_eq!(hashes(1, 1, 17), "tile/1/001.p/17");
        assert_eq!(hashes(2, 0, 1), "tile/2/000.p/1");
        assert_eq!(entries(1_000, 255), "tile/entries/x001/000.p/255");
        assert_eq!(entries(0, 256), "tile/entries/000");
    }
}
