//! How far a run has come, on a terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::input::FeedProgress;
use crate::table::counted_long;
use crate::terminal;

/// Often enough to look alive, seldom enough to cost nothing.
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// The line on stderr that shows how far a run has come; nothing if stderr is not a terminal.
pub(crate) struct Progress {
    outputs: Arc<AtomicU64>,
    shown: Option<Shown>,
}

struct Shown {
    bar: ProgressBar,
    stop: SyncSender<()>,
    painter: JoinHandle<()>,
}

impl Progress {
    /// Start to show `feed`, out of `total_bytes` where that is known.
    pub(crate) fn start(feed: Option<Arc<FeedProgress>>, total_bytes: Option<u64>) -> Self {
        let outputs = Arc::new(AtomicU64::new(0));
        let shown = if terminal::is_watched() { Shown::start(feed, total_bytes, &outputs) } else { None };
        Self { outputs, shown }
    }

    /// Count, and show nothing.
    pub(crate) fn hidden() -> Self {
        Self { outputs: Arc::default(), shown: None }
    }

    pub(crate) fn count_output(&self) {
        self.outputs.fetch_add(1, Ordering::Relaxed);
    }

    /// Take the line away while `write` uses the same screen.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.shown {
            Some(shown) => shown.bar.suspend(write),
            None => write(),
        }
    }

    /// Leave the last state on the screen. When all is done, input that was not read does not count.
    pub(crate) fn finish(self, all_is_done: bool) {
        if let Some(shown) = self.shown {
            drop(shown.stop);
            // The painter only paints; if it panicked there is nothing left to take care of.
            let _ = shown.painter.join();
            if let Some(total) = shown.bar.length().filter(|_| all_is_done) {
                shown.bar.set_position(total);
            }
            shown.bar.abandon();
        }
    }
}

impl Shown {
    /// `None` where the system has no thread for it: a run goes on without its line.
    fn start(feed: Option<Arc<FeedProgress>>, total_bytes: Option<u64>, outputs: &Arc<AtomicU64>) -> Option<Self> {
        let bar = match (&feed, total_bytes) {
            (Some(_), Some(total)) if total > 0 => {
                ProgressBar::new(total).with_style(style("{bar:24.cyan/dim} {percent:>3}%  {msg}"))
            }
            _ => ProgressBar::new_spinner().with_style(style("{spinner:.cyan} {msg}")),
        };
        let (stop, stopped) = sync_channel(0);
        let (line, outputs) = (bar.clone(), Arc::clone(outputs));
        let started = Instant::now();
        let paint = move || {
            loop {
                let is_over = stopped.recv_timeout(REDRAW_EVERY) != Err(RecvTimeoutError::Timeout);
                if let Some(feed) = &feed {
                    line.set_position(feed.bytes.load(Ordering::Relaxed));
                }
                line.set_message(message(feed.as_deref(), outputs.load(Ordering::Relaxed), started.elapsed()));
                line.tick();
                if is_over {
                    return;
                }
            }
        };
        let painter = thread::Builder::new().name("remotemedia-progress".to_owned()).spawn(paint).ok()?;
        Some(Self { bar, stop, painter })
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed").progress_chars("━━─")
}

fn message(feed: Option<&FeedProgress>, outputs: u64, elapsed: Duration) -> String {
    let Some(feed) = feed else { return rate_text("output", outputs, elapsed) };
    let items = feed.items.load(Ordering::Relaxed);
    let mut text = rate_text("item", items, elapsed);
    if outputs != items {
        text += &format!("  {}", counted_long(outputs, "output"));
    }
    let audio = Duration::from_micros(feed.audio_micros.load(Ordering::Relaxed));
    if !audio.is_zero() {
        text += &format!("  {} of audio, {:.1}× real time", clock(audio), audio.as_secs_f64() / secs(elapsed));
    }
    text
}

fn rate_text(one: &str, count: u64, elapsed: Duration) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a rounded figure for people")]
    let rate = count as f64 / secs(elapsed);
    format!("{}  {rate:.0} {one}s/s  {}", counted_long(count, one), clock(elapsed))
}

fn secs(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64().max(1e-3)
}

/// `0:07`, `12:00`, `1:02:03`.
fn clock(duration: Duration) -> String {
    let secs = duration.as_secs();
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{secs:02}") } else { format!("{minutes}:{secs:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(items: u64, audio_secs: u64) -> FeedProgress {
        FeedProgress { items: items.into(), bytes: 0.into(), audio_micros: (audio_secs * 1_000_000).into() }
    }

    #[test]
    fn audio_is_set_against_the_clock() {
        let text = message(Some(&feed(500, 3723)), 500, Duration::from_secs(10));

        assert_eq!(text, "500 items  50 items/s  0:10  1:02:03 of audio, 372.3× real time");
    }

    #[test]
    fn outputs_are_shown_where_they_are_more_or_fewer_than_items() {
        assert_eq!(message(Some(&feed(1, 0)), 40, Duration::from_secs(2)), "1 item  0 items/s  0:02  40 outputs");
    }

    #[test]
    fn outputs_of_a_source_are_counted_alone() {
        assert_eq!(message(None, 1, Duration::from_secs(2)), "1 output  0 outputs/s  0:02");
    }
}
