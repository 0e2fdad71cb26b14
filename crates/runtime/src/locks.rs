//! Mutexes and condition variables that a panic does not poison, and that work in a fork of the process.
//!
//! They are those of the standard library. `parking_lot` keeps a table of the threads that wait in the whole process; in the child of a
//! fork, it would write to threads that do not exist there, whose memory new threads use.

use std::fmt;
use std::fmt::{Debug, Formatter};
use std::ops::{Deref, DerefMut};
use std::sync;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Keeps a value for one thread at a time.
#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

/// The value of a [`Mutex`], which is locked for as long as this lives.
// Empty only while its thread waits for a condition.
pub struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

/// Lets threads wait for changes of a value in a [`Mutex`].
///
/// A notification costs a system call, so there is none while no thread waits. Who notifies must therefore have had the mutex since the
/// change: a thread that has looked before is counted by then.
#[derive(Debug, Default)]
pub struct Condvar {
    condvar: sync::Condvar,
    /// How many threads wait. Changed only by threads that have the mutex.
    waiting: AtomicUsize,
}

impl<T> Mutex<T> {
    /// A mutex that is not locked.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Wait until no other thread has the value.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The value, unless another thread has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(MutexGuard(Some(guard))),
            Err(TryLockError::Poisoned(poisoned)) => Some(MutexGuard(Some(poisoned.into_inner()))),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The value, which only the caller can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, without the mutex.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Debug> Debug for MutexGuard<'_, T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("the mutex is locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("the mutex is locked")
    }
}

impl Condvar {
    /// A condition variable without waiting threads.
    pub const fn new() -> Self {
        Self { condvar: sync::Condvar::new(), waiting: AtomicUsize::new(0) }
    }

    /// Wait for a notification, while other threads may have the value.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        guard.0 = guard.0.take().map(|held| self.condvar.wait(held).unwrap_or_else(PoisonError::into_inner));
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wait for at most `timeout`.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) {
        let wait = |held| self.condvar.wait_timeout(held, timeout).unwrap_or_else(PoisonError::into_inner).0;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        guard.0 = guard.0.take().map(wait);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wait while the condition holds, for at most `timeout`. Returns whether it still holds.
    pub fn wait_while_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        timeout: Duration,
    ) -> bool {
        let deadline = Instant::now() + timeout;
        while condition(guard) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            self.wait_for(guard, left);
        }
        false
    }

    /// Wake one waiting thread.
    pub fn notify_one(&self) {
        if self.has_waiting() {
            self.condvar.notify_one();
        }
    }

    /// Wake all waiting threads.
    pub fn notify_all(&self) {
        if self.has_waiting() {
            self.condvar.notify_all();
        }
    }

    fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// A [`Mutex`] whose wait can end at a deadline.
#[derive(Debug, Default)]
pub struct TimedMutex<T> {
    value: Mutex<T>,
    /// How many threads wait at the gate.
    waiting: AtomicUsize,
    gate: Mutex<()>,
    is_free: Condvar,
}

/// The value of a [`TimedMutex`], which is locked for as long as this lives.
pub struct TimedGuard<'a, T> {
    // Empty only while it is dropped.
    guard: Option<MutexGuard<'a, T>>,
    mutex: &'a TimedMutex<T>,
}

impl<T> TimedMutex<T> {
    /// A mutex that is not locked.
    pub const fn new(value: T) -> Self {
        Self { value: Mutex::new(value), waiting: AtomicUsize::new(0), gate: Mutex::new(()), is_free: Condvar::new() }
    }

    /// Wait until no other thread has the value.
    pub fn lock(&self) -> TimedGuard<'_, T> {
        TimedGuard { guard: Some(self.value.lock()), mutex: self }
    }

    /// The value, unless another thread has it.
    pub fn try_lock(&self) -> Option<TimedGuard<'_, T>> {
        Some(TimedGuard { guard: Some(self.value.try_lock()?), mutex: self })
    }

    /// The value, if it is free before the deadline.
    pub fn try_lock_until(&self, deadline: Instant) -> Option<TimedGuard<'_, T>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let found = self.try_lock();
            if found.is_some() || left.is_zero() {
                return found;
            }
            let mut gate = self.gate.lock();
            // Counted before the check: either this thread finds the value free, or the one that frees it finds this one waiting.
            self.waiting.fetch_add(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let found = self.try_lock();
            if found.is_none() {
                self.is_free.wait_for(&mut gate, left);
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            drop(gate);
            if found.is_some() {
                return found;
            }
        }
    }
}

impl<T> Drop for TimedGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        fence(Ordering::SeqCst);
        if self.mutex.waiting.load(Ordering::SeqCst) > 0 {
            drop(self.mutex.gate.lock());
            self.mutex.is_free.notify_one();
        }
    }
}

impl<T> Deref for TimedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("the mutex is locked")
    }
}

impl<T> DerefMut for TimedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("the mutex is locked")
    }
}
