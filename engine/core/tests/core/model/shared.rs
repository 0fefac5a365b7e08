//! Values that many states share: cheap to copy, hashed once.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;

/// 128 bits of a value's content: among ten million states two that differ collide with a chance of one
/// in 10^24.
pub(super) fn digest<T: Hash>(value: &T) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        value.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// A value that is never changed in place, only replaced.
pub(super) struct Shared<T> {
    value: Rc<T>,
    digest: u128,
}

impl<T: Hash> Shared<T> {
    pub(super) fn new(value: T) -> Self {
        Self { digest: digest(&value), value: Rc::new(value) }
    }
}

impl<T: Hash + Clone> Shared<T> {
    /// Changes a copy and puts it in the place of the value.
    pub(super) fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut copy = (*self.value).clone();
        let result = change(&mut copy);
        *self = Self::new(copy);
        result
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { value: Rc::clone(&self.value), digest: self.digest }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.digest);
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
