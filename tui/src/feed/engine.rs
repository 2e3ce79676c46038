//! The thread that talks to the colony.
//!
//! The desk holds what is wanted; the engine keeps one task per slot that asks it, and one that
//! keeps the connection. A task whose want changed is aborted, which closes its stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coral_model::question::Mode;
use coral_model::time::Time;
use coral_model::view::Row;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Delivery, Feed, FeedError, Inbox, Slot, Want};

/// Answers of more rows than this are cut here, whatever was asked.
const MOST_ROWS: usize = 20_000;
/// How often the colony is asked about itself while connected.
const STATUS_EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Orders {
    wanted: BTreeMap<Slot, Arc<Want>>,
    complete: Option<(String, String)>,
    notes: Vec<(String, Option<String>, Time)>,
}

/// Where the screen leaves what it wants. Nothing here ever blocks.
#[derive(Default)]
pub struct Desk {
    orders: Mutex<Orders>,
    changed: Notify,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants `want` in `slot` from now on, or nothing any more.
    pub fn want(&self, slot: Slot, want: Option<Arc<Want>>) {
        let mut orders = self.lock();
        match want {
            Some(want) => orders.wanted.insert(slot, want),
            None => orders.wanted.remove(&slot),
        };
        self.changed.notify_one();
    }

    /// Wants completions, in place of earlier ones.
    pub fn complete(&self, key: String, prefix: String) {
        self.lock().complete = Some((key, prefix));
        self.changed.notify_one();
    }

    /// Leaves a note.
    pub fn note(&self, text: String, service: Option<String>, at: Time) {
        let mut orders = self.lock();
        if orders.notes.len() < 16 {
            orders.notes.push((text, service, at));
        }
        self.changed.notify_one();
    }
}

/// The running engine; stops when dropped.
pub struct Engine {
    desk: Arc<Desk>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Engine {
    /// Starts the engine on a thread of its own.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start(feed: Arc<dyn Feed>, inbox: Arc<Inbox>) -> std::io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("coral-feed")
            .enable_all()
            .build()?;
        let (its_desk, its_stop) = (Arc::clone(&desk), stop.clone());
        let thread = std::thread::Builder::new().name("coral-engine".into()).spawn(move || {
            runtime.block_on(run(feed, inbox, its_desk, its_stop));
            // Streams that hang must not keep the terminal: leave them behind.
            runtime.shutdown_timeout(Duration::from_millis(200));
        })?;
        Ok(Self { desk, stop, thread: Some(thread) })
    }

    /// Where to leave what is wanted.
    #[must_use]
    pub fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Asking {
    want: Arc<Want>,
    task: JoinHandle<()>,
}

async fn run(feed: Arc<dyn Feed>, inbox: Arc<Inbox>, desk: Arc<Desk>, stop: CancellationToken) {
    let (up, _) = watch::channel(false);
    let up = Arc::new(up);
    let broken = Arc::new(Notify::new());
    let link = tokio::spawn(keep_link(
        Arc::clone(&feed),
        Arc::clone(&inbox),
        Arc::clone(&up),
        Arc::clone(&broken),
    ));
    let mut asking: BTreeMap<Slot, Asking> = BTreeMap::new();
    loop {
        let (wanted, complete, notes) = {
            let mut orders = desk.lock();
            (orders.wanted.clone(), orders.complete.take(), std::mem::take(&mut orders.notes))
        };
        asking.retain(|slot, asked| {
            let keep = wanted.get(slot).is_some_and(|w| Arc::ptr_eq(w, &asked.want));
            if !keep {
                asked.task.abort();
            }
            keep
        });
        for (slot, want) in wanted {
            asking.entry(slot).or_insert_with(|| {
                let task = tokio::spawn(keep_asking(
                    Arc::clone(&feed),
                    Arc::clone(&inbox),
                    slot,
                    Arc::clone(&want),
                    up.subscribe(),
                    Arc::clone(&broken),
                ));
                Asking { want, task }
            });
        }
        if let Some((key, prefix)) = complete {
            let (feed, inbox) = (Arc::clone(&feed), Arc::clone(&inbox));
            tokio::spawn(async move {
                if let Ok(values) = feed.complete(key.clone(), prefix.clone()).await {
                    inbox.post(|mail| mail.completed = Some((key, prefix, values)));
                }
            });
        }
        for (text, service, at) in notes {
            let (feed, inbox) = (Arc::clone(&feed), Arc::clone(&inbox));
            tokio::spawn(async move {
                let notice = match feed.note(text, service, at).await {
                    Ok(()) => "note left on the timeline".to_owned(),
                    Err(e) => format!("the note was not kept: {e}"),
                };
                inbox.post(|mail| mail.notice = Some(notice));
            });
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = desk.changed.notified() => {}
        }
    }
    link.abort();
    for asked in asking.values() {
        asked.task.abort();
    }
}

/// Connects, and connects again after every loss, waiting longer each time (0.2 s to 5 s).
async fn keep_link(
    feed: Arc<dyn Feed>,
    inbox: Arc<Inbox>,
    up: Arc<watch::Sender<bool>>,
    broken: Arc<Notify>,
) {
    let mut pause = Duration::from_millis(200);
    loop {
        let teller = Arc::clone(&inbox);
        let progress = move |text: &str| {
            let text = text.to_owned();
            teller.post(|mail| mail.progress = Some(text));
        };
        match feed.connect(Box::new(progress)).await {
            Ok(greeting) => {
                pause = Duration::from_millis(200);
                inbox.post(|mail| {
                    mail.progress = None;
                    mail.link = Some(Ok(greeting));
                });
                // Tasks that noticed the last loss late must not end the new connection.
                let _ = tokio::time::timeout(Duration::ZERO, broken.notified()).await;
                up.send_replace(true);
                loop {
                    if let Ok(status) = feed.status().await {
                        inbox.post(|mail| mail.status = Some(Box::new(status)));
                    }
                    tokio::select! {
                        () = broken.notified() => break,
                        () = tokio::time::sleep(STATUS_EVERY) => {}
                    }
                }
                up.send_replace(false);
                inbox.post(|mail| mail.link = Some(Err("the colony went away".into())));
            }
            Err(error) => {
                inbox.post(|mail| mail.link = Some(Err(error.to_string())));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Asks until the want is satisfied (once) or withdrawn (by aborting this task).
async fn keep_asking(
    feed: Arc<dyn Feed>,
    inbox: Arc<Inbox>,
    slot: Slot,
    want: Arc<Want>,
    mut up: watch::Receiver<bool>,
    broken: Arc<Notify>,
) {
    let mut pause = Duration::from_millis(100);
    loop {
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
        let (sender, receiver) = mpsc::channel(16);
        let asked = feed.ask(want.question(Time::now()), sender);
        let (ended, answered) = tokio::join!(asked, collect(&inbox, slot, &want, receiver));
        match ended {
            Ok(()) if want.mode == Mode::Once => return,
            Ok(()) => {}
            Err(FeedError::Refused(why)) => {
                inbox.answer(slot, Delivery { want, outcome: Err(why) });
                return;
            }
            Err(FeedError::Lost(_)) => broken.notify_one(),
        }
        if answered {
            pause = Duration::from_millis(100);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Gathers rows into answers until the stream ends; says whether any was whole.
async fn collect(
    inbox: &Inbox,
    slot: Slot,
    want: &Arc<Want>,
    mut receiver: mpsc::Receiver<Vec<Row>>,
) -> bool {
    let mut whole = false;
    let mut rows = Vec::new();
    while let Some(batch) = receiver.recv().await {
        if want.mode == Mode::Tail {
            whole = true;
            let logs = batch.into_iter().filter_map(|row| match row {
                Row::Log(log) => Some(*log),
                _ => None,
            });
            inbox.tail(want, logs);
            continue;
        }
        for row in batch {
            match row {
                Row::End(end) => {
                    whole = true;
                    let outcome = Ok((std::mem::take(&mut rows), *end));
                    inbox.answer(slot, Delivery { want: Arc::clone(want), outcome });
                }
                row if rows.len() < MOST_ROWS => rows.push(row),
                _ => {}
            }
        }
    }
    whole
}
