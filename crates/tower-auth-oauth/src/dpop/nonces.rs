use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tower_auth_core::Origin;

/// The last nonce of each origin. A signature costs a hundred times as much as the lock.
#[derive(Default)]
pub(super) struct Nonces(Mutex<HashMap<Origin, Arc<str>>>);

impl Nonces {
    pub(super) fn get(&self, origin: &Origin) -> Option<Arc<str>> {
        self.lock().get(origin).cloned()
    }

    pub(super) fn put(&self, origin: Origin, nonce: Arc<str>) {
        let mut nonces = self.lock();
        if nonces.len() >= MOST && !nonces.contains_key(&origin) {
            // Whose nonce is forgotten learns it again at the price of one request.
            nonces.clear();
        }
        nonces.insert(origin, nonce);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program talks to a few APIs. More origins than this come from URLs that somebody else made up.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_origins_is_bounded() {
        let nonces = Nonces::default();
        for port in 1..=1000 {
            let origin: Origin = format!("https://a.test:{port}").parse().unwrap();
            nonces.put(origin.clone(), "n".into());
            assert!(nonces.get(&origin).is_some());
        }
        assert!(nonces.lock().len() <= MOST);
    }
}
