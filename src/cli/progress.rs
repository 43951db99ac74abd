//! Bars for transfers, on a terminal; elsewhere only what went wrong on the way is told.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use treebox::{Listener, Transfer};

use super::output::{Output, one_line};

/// Digits of a digest that tell one layer from another.
const SHOWN_DIGITS: usize = 12;
const BAR: &str = "{prefix:.dim} {bar:24} {bytes:>10} of {total_bytes:<10} {bytes_per_sec:>12} {msg}";

/// The bars of one transfer. They go when this is dropped.
pub(super) struct Progress {
    bars: Option<Arc<Bars>>,
    note: Arc<dyn Fn(&str) + Send + Sync>,
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    by_digest: Mutex<HashMap<String, ProgressBar>>,
}

impl Progress {
    pub(super) fn new(out: &Output) -> Self {
        let drawn = io::stderr().is_terminal() && !out.quiet();
        Self { bars: drawn.then(Arc::default), note: Arc::new(out.noter()) }
    }

    /// What the library tells of it.
    pub(super) fn listener(&self) -> Listener {
        let (bars, note) = (self.bars.clone(), Arc::clone(&self.note));
        Listener::new(move |event| {
            let text = match event {
                Transfer::Again { what, reason, after } => {
                    format!("{what}: {reason}; trying again in {:.1} s", after.as_secs_f64())
                }
                Transfer::NextMirror { host, reason } => format!("{host} is passed over: {reason}"),
                Transfer::Waiting { digest } => {
                    format!("waiting for another treebox that fetches {}", short(digest))
                }
                event => {
                    if let Some(bars) = &bars {
                        bars.draw(event);
                    }
                    return;
                }
            };
            match &bars {
                // Where bars cannot be drawn nobody misses them.
                Some(bars) => drop(bars.all.println(format!("treebox: {}", one_line(&text)))),
                None => note(&text),
            }
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bars) = &self.bars {
            drop(bars.all.clear());
        }
    }
}

impl Bars {
    fn draw(&self, event: &Transfer) {
        let mut known = self.by_digest.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Transfer::Begun { digest, size_bytes, done_bytes } => {
                let bar = known.entry(digest.clone()).or_insert_with(|| {
                    let style = ProgressStyle::with_template(BAR);
                    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                    let bar = ProgressBar::new(*size_bytes).with_style(style).with_prefix(short(digest));
                    self.all.add(bar)
                });
                bar.set_position(*done_bytes);
            }
            Transfer::Moved { digest, bytes } => {
                if let Some(bar) = known.get(digest) {
                    bar.inc(*bytes);
                }
            }
            Transfer::Done { digest } => {
                if let Some(bar) = known.get(digest) {
                    bar.finish_with_message("done");
                }
            }
            _ => {}
        }
    }
}

fn short(digest: &str) -> String {
    digest.split_once(':').map_or(digest, |(_, hex)| hex).chars().take(SHOWN_DIGITS).collect()
}
