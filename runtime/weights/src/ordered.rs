//! Work done by several threads and handed on in its order, with a bound on the memory it holds.
//!
//! Threads take jobs in order, as many as fit the budget together; what they make is consumed in
//! order by the calling thread. So what comes out depends neither on the number of threads nor on
//! which of them is first, and a slow consumer holds back the work and not the memory.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::{Error, Result};

/// How much may be under way at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Threads that work; one more consumes.
    pub(crate) threads: usize,
    /// Bytes of all jobs that are taken and not yet consumed. A job above it goes alone.
    pub(crate) bytes: u64,
}

/// Jobs that are announced before the one that is taken next.
const AHEAD: usize = 3;

/// What the threads share.
struct State<T> {
    /// The job that is taken next.
    next: usize,
    /// Bytes of the jobs taken and not yet consumed.
    held: u64,
    made: BTreeMap<usize, Result<T>>,
    /// No more jobs are taken.
    closed: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State<T>>) -> MutexGuard<'s, State<T>> {
        self.changed
            .wait(state)
            .unwrap_or_else(|poison| poison.into_inner())
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

/// Ends the work when the consumer leaves, whatever way, so that no thread waits for it.
struct Leaving<'s, T>(&'s Shared<T>);

impl<T> Drop for Leaving<'_, T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The three parts of ordered work over jobs `J` that make values `T`.
pub(crate) struct Ordered<'f, J, T> {
    /// Bytes that a job and what it makes hold at most.
    pub(crate) cost: &'f (dyn Fn(&J) -> u64 + Sync),
    /// Told of each job in order, a little before it is taken, on a thread of its own.
    pub(crate) announce: &'f (dyn Fn(&J) + Sync),
    /// Does a job, on any thread.
    pub(crate) work: &'f (dyn Fn(&J) -> Result<T> + Sync),
}

impl<J: Sync, T: Send> Ordered<'_, J, T> {
    /// Does all jobs. `consume` gets what they made, in order, on the calling thread; where it gives
    /// false, the rest is left out and so is the result.
    ///
    /// # Errors
    /// The first error in the order of the jobs.
    pub(crate) fn run(
        &self,
        jobs: &[J],
        room: Room,
        mut consume: impl FnMut(&J, T) -> Result<bool>,
    ) -> Result<bool> {
        let shared = Shared {
            state: Mutex::new(State {
                next: 0,
                held: 0,
                made: BTreeMap::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        };
        std::thread::scope(|scope| {
            // Dropped at the end of this closure, whatever way it ends, before threads are joined.
            let _leaving = Leaving(&shared);
            for _ in 0..room.threads.clamp(1, jobs.len().max(1)) {
                scope.spawn(|| self.take_jobs(jobs, room.bytes, &shared));
            }
            scope.spawn(|| self.announce_jobs(jobs, &shared));
            for (index, job) in jobs.iter().enumerate() {
                let mut state = shared.lock();
                let made = loop {
                    if let Some(made) = state.made.remove(&index) {
                        break made;
                    }
                    state = shared.wait(state);
                };
                drop(state);
                if !consume(job, made?)? {
                    return Ok(false);
                }
                shared.lock().held -= (self.cost)(job);
                shared.changed.notify_all();
            }
            Ok(true)
        })
    }

    fn take_jobs(&self, jobs: &[J], bytes: u64, shared: &Shared<T>) {
        loop {
            let mut state = shared.lock();
            let index = loop {
                if state.closed || state.next == jobs.len() {
                    return; // What others have taken goes on.
                }
                let cost = (self.cost)(&jobs[state.next]);
                if state.held == 0 || state.held.saturating_add(cost) <= bytes {
                    state.held += cost;
                    state.next += 1;
                    break state.next - 1;
                }
                state = shared.wait(state);
            };
            drop(state);
            shared.changed.notify_all();
            // Every job that is taken is answered for: a panic is an error like any other.
            let work = AssertUnwindSafe(|| (self.work)(&jobs[index]));
            let made = catch_unwind(work)
                .unwrap_or_else(|_| Err(Error::new("a thread ended in the middle of its work")));
            let failed = made.is_err();
            shared.lock().made.insert(index, made);
            if failed {
                shared.close();
            }
            shared.changed.notify_all();
        }
    }

    fn announce_jobs(&self, jobs: &[J], shared: &Shared<T>) {
        for (index, job) in jobs.iter().enumerate() {
            let mut state = shared.lock();
            while !state.closed && index >= state.next + AHEAD {
                state = shared.wait(state);
            }
            if state.closed {
                return;
            }
            // What is taken already reads for itself.
            let late = index < state.next;
            drop(state);
            // What fails here costs time and nothing else.
            if !late {
                let _ = catch_unwind(AssertUnwindSafe(|| (self.announce)(job)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    fn room(threads: usize, bytes: u64) -> Room {
        Room { threads, bytes }
    }

    #[test]
    fn order_and_budget_hold_for_any_number_of_threads() {
        let jobs: Vec<u64> = (0..200).map(|i| 1 + i * 7 % 10).collect();
        for threads in [1, 2, 5] {
            let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
            let ordered = Ordered {
                cost: &|job: &u64| *job,
                announce: &|_| {},
                work: &|job: &u64| {
                    let now = held.fetch_add(*job, Ordering::SeqCst) + job;
                    most.fetch_max(now, Ordering::SeqCst);
                    // The small ones are the slow ones: they come out of order by themselves.
                    std::thread::sleep(Duration::from_micros(200 / job));
                    Ok(*job)
                },
            };
            let mut seen = Vec::new();
            let ended = ordered.run(&jobs, room(threads, 20), |job, made| {
                assert_eq!(*job, made);
                held.fetch_sub(made, Ordering::SeqCst);
                seen.push(made);
                Ok(true)
            });
            assert!(ended.unwrap());
            assert_eq!(seen, jobs);
            assert!(most.load(Ordering::SeqCst) <= 20);
        }
    }

    #[test]
    fn the_first_error_in_order_is_told_and_a_stop_stops() {
        let jobs: Vec<usize> = (0..100).collect();
        let ordered = Ordered {
            cost: &|_: &usize| 50,
            announce: &|_| {},
            work: &|job: &usize| match job {
                30.. => Err(Error::new(format!("job {job}"))),
                _ => Ok(*job),
            },
        };
        let error = ordered.run(&jobs, room(4, 10), |_, _| Ok(true));
        assert_eq!(error.unwrap_err().message, "job 30");
        let mut count = 0;
        let ended = ordered.run(&jobs, room(4, 1000), |_, _| {
            count += 1;
            Ok(count < 10)
        });
        assert!(!ended.unwrap());
        assert_eq!(count, 10);
        let none = ordered.run(&[], room(4, 1000), |_, _| Ok(true));
        assert!(none.unwrap());
    }

    #[test]
    fn a_panic_is_the_error_of_its_job() {
        let jobs: Vec<usize> = (0..50).collect();
        let ordered = Ordered {
            cost: &|_: &usize| 1,
            announce: &|job| assert!(*job != 3, "announced"),
            work: &|job: &usize| {
                assert!(*job != 20, "job 20");
                Ok(*job)
            },
        };
        for threads in [1, 4] {
            let mut seen = 0;
            let ended = ordered.run(&jobs, room(threads, 10), |_, _| {
                seen += 1;
                Ok(true)
            });
            assert!(ended.unwrap_err().message.contains("in the middle"));
            assert_eq!(seen, 20);
        }
    }
}
