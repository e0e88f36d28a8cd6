//! Which version wrote the store: asked before anything in it is opened.

use std::io::Write as _;
use std::path::Path;

use crate::store::Error;

/// Refuses a store of a newer version before anything in it is opened, and writes down that it is ours.
pub(super) fn claim(path: &Path) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::Open { path: path.to_owned(), source: e.into() };
    let file = path.join("format");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(failed(e)),
    };
    match text.trim().parse() {
        Ok(found) if found > FORMAT => Err(Error::Newer { path: path.to_owned(), found, known: FORMAT }),
        Ok(FORMAT) => Ok(()),
        // An older one, nothing, or the beginning of a write that was cut.
        Ok(_) | Err(_) => {
            let mut file = std::fs::File::create(&file).map_err(failed)?;
            writeln!(file, "{FORMAT}").and_then(|()| file.sync_all()).map_err(failed)?;
            std::fs::File::open(path).and_then(|directory| directory.sync_all()).map_err(failed)
        }
    }
}

/// Of keys and values together: grows when an older version could not read what we write.
///
/// | | since |
/// |---|---|
/// | 2 | monitors with retries, maintenance and the other fields of every check; results in maintenance |
/// | 1 | the first one |
const FORMAT: u32 = 2;
