use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use tower_auth_core::{Error, ErrorKind};

/// Bytes that nobody can predict, as an argument: the `jti` of an assertion, a nonce, a request id.
pub trait Random: Send + Sync + 'static {
    /// Fills the buffer.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the operating system has none to give.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error>;

    /// A random UUID in its usual spelling (RFC 9562 section 5.4).
    ///
    /// ```
    /// use tower_auth_io::{Random, SystemRandom};
    ///
    /// let id = SystemRandom.uuid()?;
    /// assert_eq!(id.len(), 36);
    /// assert_ne!(id, SystemRandom.uuid()?);
    /// # Ok::<(), tower_auth_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    fn uuid(&self) -> Result<String, Error> {
        let mut bytes = [0; 16];
        self.fill(&mut bytes)?;
        let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0b11 << 62);
        let hex = format!("{:032x}", bits | 4 << 76 | 0b10 << 62);
        let mut uuid = String::with_capacity(36);
        for (i, digit) in hex.chars().enumerate() {
            if matches!(i, 8 | 12 | 16 | 20) {
                uuid.push('-');
            }
            uuid.push(digit);
        }
        Ok(uuid)
    }
}

impl<R: Random + ?Sized> Random for std::sync::Arc<R> {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        (**self).fill(bytes)
    }
}

/// The random number generator of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        getrandom::fill(bytes).map_err(|cause| {
            Error::new(
                ErrorKind::Unavailable,
                "the operating system gave no random bytes",
            )
            .with_cause(cause)
        })
    }
}

/// A sequence that is the same for the same seed. For tests: whoever knows the seed knows the bytes.
///
/// ```
/// use tower_auth_io::{Random, SeededRandom};
///
/// assert_eq!(SeededRandom::new(1).uuid()?, SeededRandom::new(1).uuid()?);
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
pub struct SeededRandom(AtomicU64);

impl SeededRandom {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// SplitMix64.
    fn word(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut word = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        for chunk in bytes.chunks_mut(8) {
            for (byte, random) in chunk.iter_mut().zip(self.word().to_le_bytes()) {
                *byte = random;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SeededRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeededRandom").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        let random = SeededRandom::new(7);
        for _ in 0..100 {
            let uuid = random.uuid().unwrap();
            let parts: Vec<_> = uuid.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{uuid}");
            assert_eq!(&uuid[14..15], "4", "{uuid}");
            assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
        }
    }

    #[test]
    fn bytes_of_the_system_differ_from_call_to_call() {
        let mut first = [0; 32];
        let mut second = [0; 32];
        SystemRandom.fill(&mut first).unwrap();
        SystemRandom.fill(&mut second).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn a_seeded_sequence_fills_every_byte() {
        let mut bytes = [0; 1021];
        SeededRandom::new(3).fill(&mut bytes).unwrap();
        let zeros = bytes.iter().filter(|byte| **byte == 0).count();
        assert!(zeros < 20, "{zeros}");
    }
}
