//! The patterns that are kept compiled, for all runs of the process.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::Pattern;

/// Patterns that are kept, and bytes of all of them.
const KEPT: usize = 512;
const KEPT_BYTES: usize = 8 << 20;

/// Emptied when it is full: the next runs fill it with what is in use.
static KEPT_PATTERNS: LazyLock<Mutex<Shelf>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Shelf {
    patterns: HashMap<String, Arc<Pattern>>,
    bytes: usize,
}

pub(super) fn taken(text: &str) -> Option<Arc<Pattern>> {
    shelf().patterns.get(text).cloned()
}

pub(super) fn put(pattern: &Arc<Pattern>) {
    let mut shelf = shelf();
    shelf.make_room(pattern.size());
    if let Some(other) = shelf.patterns.insert(pattern.text.clone(), pattern.clone()) {
        shelf.bytes = shelf.bytes.saturating_sub(other.size());
    }
}

/// One of the patterns has become larger by so much.
pub(super) fn grown(pattern: &Pattern, by: usize) {
    let mut shelf = shelf();
    if shelf.patterns.get(&pattern.text).is_some_and(|kept| std::ptr::eq(&**kept, pattern)) {
        shelf.make_room(by);
    }
}

impl Shelf {
    fn make_room(&mut self, bytes: usize) {
        if self.patterns.len() == KEPT || self.bytes + bytes > KEPT_BYTES {
            *self = Self::default();
        }
        self.bytes += bytes;
    }
}

fn shelf() -> MutexGuard<'static, Shelf> {
    KEPT_PATTERNS.lock().unwrap_or_else(PoisonError::into_inner)
}
