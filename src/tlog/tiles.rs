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

/// What is at a path below a log's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Its tile level; `None` for a bundle of entries.
    pub level: Option<u32>,
    /// Which of its level, from the left.
    pub index: u64,
    /// Hashes, or entries, in it: 1 to [`TILE_WIDTH`].
    pub width: u64,
}

/// Tile levels a log can have: a tile of the last one would be over more leaves than can be counted.
const MAX_LEVEL: u32 = 7;

impl Tile {
    /// The tile at a path, if it is the one way of writing it.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = match level {
            "entries" => None,
            level => Some(level.parse().ok().filter(|level| *level <= MAX_LEVEL)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => {
                (number, width.parse().ok().filter(|width| (1..TILE_WIDTH).contains(width))?)
            }
            None => (rest, TILE_WIDTH),
        };
        let mut index: u64 = 0;
        for element in number.split('/') {
            let digits = element.strip_prefix('x').unwrap_or(element);
            index = index.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
        }
        let tile = Self { level, index, width };
        let written = level.map_or_else(|| entries(index, width), |level| hashes(level, index, width));
        (written == path).then_some(tile)
    }

    /// The leaves below it, from the first to the one after the last; `None` where no log can have so many.
    #[must_use]
    pub fn leaves(&self) -> Option<(u64, u64)> {
        let each = 1_u64.checked_shl(8 * self.level.unwrap_or(0))?;
        let first = self.index.checked_mul(TILE_WIDTH)?;
        let end = first.checked_add(self.width)?;
        Some((first.checked_mul(each)?, end.checked_mul(each)?))
    }
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

    #[test]
    fn only_paths_of_the_specification_are_read() {
        let tile = |level, index, width| Some(Tile { level, index, width });
        assert_eq!(Tile::parse("tile/0/x001/x234/067"), tile(Some(0), 1_234_067, 256));
        assert_eq!(Tile::parse("tile/entries/x001/000.p/255"), tile(None, 1_000, 255));
        assert_eq!(Tile::parse("tile/2/000.p/1").unwrap().leaves(), Some((0, 65_536)));
        assert_eq!(Tile::parse("tile/7/000").unwrap().leaves(), None);
        for path in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/1000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/001.p/256",
            "tile/0/001.p/0",
            "tile/0/001.p/017",
            "tile/00/001",
            "tile/8/000",
            "tile/-1/000",
            "tile/0/+01",
            "tile/0/xx1/001",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/entries/000.p/",
            "tile/0/000/",
        ] {
            assert_eq!(Tile::parse(path), None, "{path}");
        }
    }
}
