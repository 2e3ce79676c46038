//! Opens the eyes and closes them: because a person wants it, or because the agent costs more than it may.
//!
//! Comes in: what the colony says that somebody wants ([`super::lids`]), and what the agent costs
//! ([`super::allowance`]). Goes out: eyes that are open ([`super::run`], each time with a new table of connections)
//! or closed, in which case no program of Coral's is in the kernel; senses that say why, and an event, so that a gap
//! explains itself. What was followed when they close is forgotten: nothing is told of a request whose end nobody saw.
//!
//! Eyes that were open and failed, or did not open again, are tried every minute; where they never opened the agent
//! may not, and they are left alone.

use std::sync::Arc;
use std::time::Duration;

use coral_model::Time;
use coral_model::time::SECOND;
use coral_model::view::EventKind;
use coral_proto::record::Kind;
use coral_proto::v1;
use prost::Message as _;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::allowance::{Allowance, Pause, Verdict};
use super::lids::{self, Lids, Said, Wish};
use super::{OUTPUT, REQUESTS, SENSE, TLS};
use crate::observe::clock::{Clocks, own_cpu_ns};
use crate::pipeline::Pipeline;
use crate::senses::Senses;

/// How often what the agent costs is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How long the colony may take to say what is wanted before the eyes are opened without its word.
const WORD: Duration = Duration::from_secs(5);
/// How long after eyes failed they are opened again, ns.
const AGAIN_NS: u64 = 60 * SECOND;
/// Why they are closed where somebody wants that, and what opens them.
const TURNED_OFF: &str = "turned off by a person (coral eyes off)";
const TURN_ON: &str = "coral eyes on";
/// What opens them where they cost too much.
const ALLOW_MORE: &str = "coral eyes on, or start coral-agent with a higher --cpu-limit";

/// Makes what one opening of the eyes needs; told through the channel whether they opened.
pub type Make = Box<dyn Fn(oneshot::Sender<bool>) -> super::Setup + Send + Sync>;

/// What [`run`] needs.
pub struct Setup {
    /// What each opening needs.
    pub make: Make,
    /// What is wanted; told how they are.
    pub lids: Lids,
    /// [`Lids::follow`], from before anybody can say anything.
    pub wish: watch::Receiver<Wish>,
    /// Told why they are closed.
    pub senses: Senses,
    /// Takes the events.
    pub pipeline: Arc<Pipeline>,
    /// `host.name`.
    pub host: String,
    /// Cores the agent may use; `None`: any.
    pub limit: Option<f64>,
}

/// Keeps the eyes as they are wanted until cancelled.
pub async fn run(setup: Setup, cancel: CancellationToken) {
    let mut wish = setup.wish.clone();
    hear_first(&mut wish, WORD, &cancel).await;
    let mut keeper = Keeper {
        allowance: Allowance::new(setup.limit),
        setup,
        cancel: cancel.clone(),
        heeded: None,
        open: None,
        again: Again::default(),
        lost: false,
    };
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !cancel.is_cancelled() {
        let wanted = wish.borrow_and_update().clone();
        keeper.heed(&wanted).await;
        tokio::select! {
            () = cancel.cancelled() => {}
            // The other end lives in the setup.
            _ = wish.changed() => {}
            _ = every.tick() => keeper.measure().await,
        }
    }
    keeper.shut().await;
}

/// Waits for the colony's word, but not for ever: an agent that cannot reach it still watches.
async fn hear_first(
    wish: &mut watch::Receiver<Wish>,
    at_most: Duration,
    cancel: &CancellationToken,
) {
    let heard = async { wish.wait_for(|wish| *wish != Wish::Unheard).await.is_ok() };
    tokio::select! {
        () = cancel.cancelled() => {}
        _ = tokio::time::timeout(at_most, heard) => {}
    }
}

/// What a wish comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Nothing.
    Stay,
    /// They close, because a person says so.
    Close,
    /// They open, because a person says so: whatever closed them, that is over.
    Open,
    /// They open for the first time; nobody said so.
    Begin,
}

/// What is to be done when this is wanted and `before` was wanted so far.
fn deed(before: Option<&Wish>, wanted: &Wish) -> Deed {
    match wanted {
        _ if before == Some(wanted) => Deed::Stay,
        Wish::Closed(_) => Deed::Close,
        Wish::Open(said) if said.at_ns > 0 => Deed::Open,
        // To hear that nobody says anything is no reason to open what closed by itself, nor to try anew.
        Wish::Open(_) | Wish::Unheard if before.is_some() => Deed::Stay,
        Wish::Open(_) | Wish::Unheard => Deed::Begin,
    }
}

/// When eyes that failed are opened again. Where they never opened they are not tried again: the agent may not.
#[derive(Debug, Default)]
struct Again {
    /// They were open in this life of the agent.
    could: bool,
    /// When they are tried next, ns of time that does not step; `None`: not by themselves.
    at_ns: Option<u64>,
}

impl Again {
    /// They were opened, or were not, or failed after they had been.
    fn tried(&mut self, open: bool, now_ns: u64) {
        self.could |= open;
        self.at_ns = (self.could && !open).then(|| now_ns.saturating_add(AGAIN_NS));
    }

    /// Whether it is time to try.
    fn is_due(&self, now_ns: u64) -> bool {
        self.at_ns.is_some_and(|at_ns| now_ns >= at_ns)
    }

    /// They shall be closed. Whether they would have been tried.
    fn stop(&mut self) -> bool {
        self.at_ns.take().is_some()
    }
}

/// Eyes that are open.
struct Open {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

/// See the module.
struct Keeper {
    setup: Setup,
    allowance: Allowance,
    cancel: CancellationToken,
    /// The wish that was acted on last.
    heeded: Option<Wish>,
    /// `None`: closed, or they could not be opened.
    open: Option<Open>,
    again: Again,
    /// An event told, in this life of the agent or an earlier one, that they are closed; none that they are open again.
    lost: bool,
}

impl Keeper {
    /// Does what is wanted, once.
    async fn heed(&mut self, wanted: &Wish) {
        if self.heeded.as_ref() == Some(wanted) {
            return;
        }
        self.notice().await;
        let deed = deed(self.heeded.as_ref(), wanted);
        self.heeded = Some(wanted.clone());
        let said = wanted.said().cloned().unwrap_or_default();
        match deed {
            Deed::Stay => {}
            Deed::Close => self.close(&said).await,
            Deed::Open => {
                self.remember(None).await;
                if self.open.is_none() {
                    let by = who(&said);
                    let text = format!("eyes open again: turned on by {by} (coral eyes on)");
                    self.reopen(text, [("by", by)]).await;
                }
            }
            Deed::Begin => _ = self.unclose().await,
        }
        if wanted.said().is_some() {
            self.setup.lids.answer(&said);
        }
    }

    /// Closes them because a person wants that.
    async fn close(&mut self, said: &Said) {
        self.remember(Some(said.clone())).await;
        // Closed as they may be, they would have opened by themselves.
        let would_open = self.again.stop() || self.allowance.pauses();
        let were_open = self.shut().await;
        self.allowance.begin();
        say(&self.setup.senses, TURNED_OFF, TURN_ON);
        // What is closed already was told of, maybe before this agent was started.
        self.lost = true;
        if were_open || would_open {
            let by = who(said);
            let text = format!("eyes closed: turned off by {by} (coral eyes off)");
            self.tell(EventKind::SourceLost, text, [("by", by)]);
        }
    }

    /// Sees to eyes that failed: their task goes on until it is told to end, unless it failed, which the log says.
    async fn notice(&mut self) {
        if self.open.as_ref().is_some_and(|open| open.task.is_finished()) {
            self.shut().await;
            self.again.tried(false, Clocks::now().boot_ns);
            let why = "what they see is no longer read: see the agent's log";
            say(&self.setup.senses, why, TURN_ON);
            self.lost = true;
            self.tell(EventKind::SourceLost, format!("eyes closed: {why}"), []);
        }
    }

    /// Looks whether they are well, and at what the agent costs.
    async fn measure(&mut self) {
        self.notice().await;
        if matches!(self.heeded, Some(Wish::Closed(_))) {
            return;
        }
        let now_ns = Clocks::now().boot_ns;
        if self.open.is_none() && !self.allowance.pauses() {
            if self.again.is_due(now_ns) {
                self.reopen("eyes open again: they had failed".to_owned(), []).await;
            }
            return;
        }
        match self.allowance.step(now_ns, own_cpu_ns()) {
            Verdict::Stay => {}
            Verdict::Close(pause) => self.rest(&pause).await,
            Verdict::Open { helped } => {
                let text = if helped {
                    "eyes open again: they were closed long enough for what they cost"
                } else {
                    "eyes open again, for an hour whatever they cost: closed the agent took more than \
                     --cpu-limit too"
                };
                self.reopen(text.to_owned(), []).await;
            }
        }
    }

    /// Opens them, and tells so where it was told that they are closed.
    async fn reopen<const N: usize>(&mut self, text: String, more: [(&str, String); N]) {
        if self.unclose().await && std::mem::take(&mut self.lost) {
            self.tell(EventKind::SourceBack, text, more);
        }
    }

    async fn rest(&mut self, pause: &Pause) {
        self.shut().await;
        let why = pause.to_string();
        tracing::warn!("eyes {why}");
        say(&self.setup.senses, &why, ALLOW_MORE);
        self.lost = true;
        let more = [
            ("cpu", format!("{:.3}", pause.used)),
            ("limit", pause.limit.to_string()),
            ("seconds", (pause.length_ns / SECOND).to_string()),
        ];
        self.tell(EventKind::SourceLost, format!("eyes {why}"), more);
    }

    /// Opens them. False: they do not open, and the senses say why.
    async fn unclose(&mut self) -> bool {
        self.allowance.begin();
        let cancel = self.cancel.child_token();
        let (told, opened) = oneshot::channel();
        let setup = (self.setup.make)(told);
        let task = tokio::spawn(super::run(setup, cancel.clone()));
        // Loading takes a second or two, which nothing can cut short.
        let opened = opened.await.unwrap_or_else(|_| {
            // Whatever began ended without a word.
            say(&self.setup.senses, "they did not open: see the agent's log", TURN_ON);
            false
        });
        self.open = Some(Open { cancel, task });
        if opened {
            self.setup.lids.set_open(true);
        } else {
            self.shut().await;
        }
        self.again.tried(opened, Clocks::now().boot_ns);
        // Loading costs what watching does not.
        self.allowance.begin();
        opened
    }

    /// Takes every program out of the kernel, and forgets what was followed. Whether there was any.
    async fn shut(&mut self) -> bool {
        let Some(Open { cancel, task }) = self.open.take() else { return false };
        cancel.cancel();
        if let Err(error) = task.await {
            tracing::error!(%error, "the eyes' task failed");
        }
        self.setup.pipeline.counters.requests_tls_files.set(0);
        self.setup.lids.set_open(false);
        true
    }

    /// Keeps, or forgets, that they shall be closed.
    async fn remember(&self, closed: Option<Said>) {
        let Some(memory) = self.setup.lids.memory() else { return };
        let kept = tokio::task::spawn_blocking(move || lids::keep(&memory, closed.as_ref())).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "what is wanted of the eyes is not remembered");
        }
    }

    fn tell<const N: usize>(&self, kind: EventKind, text: String, more: [(&str, String); N]) {
        tracing::info!("{text}");
        let now = Time::now();
        let event = v1::AgentEvent {
            at_ns: now.0,
            kind: kind.word().to_owned(),
            host: self.setup.host.clone(),
            text,
            attributes: more.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            ..Default::default()
        };
        self.setup.pipeline.own(Kind::Event, &event.encode_to_vec(), now);
    }
}

fn who(said: &Said) -> String {
    if said.by.is_empty() { "somebody".to_owned() } else { said.by.clone() }
}

/// Says of everything that eyes see why it is not seen.
fn say(senses: &Senses, why: &str, remedy: &str) {
    for sense in [SENSE, REQUESTS, TLS, OUTPUT] {
        senses.off(sense, why, Some(remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_person_opens_what_is_closed() {
        let said = |at_ns| Said { at_ns, by: "user 1000".into() };
        let nobody = Wish::Open(Said::default());
        // First contact, before anything was opened or after it was opened without the colony's word: a pause for
        // cost that has begun meanwhile goes on.
        assert_eq!(deed(None, &Wish::Unheard), Deed::Begin);
        assert_eq!(deed(None, &nobody), Deed::Begin);
        assert_eq!(deed(Some(&Wish::Unheard), &nobody), Deed::Stay);
        let (on, off) = (Wish::Open(said(8)), Wish::Closed(said(7)));
        for before in [None, Some(&Wish::Unheard), Some(&nobody), Some(&off)] {
            assert_eq!(deed(before, &on), Deed::Open, "{before:?}");
        }
        assert_eq!(deed(Some(&on), &Wish::Open(said(9))), Deed::Open, "said anew");
        for before in [None, Some(&Wish::Unheard), Some(&nobody), Some(&on)] {
            assert_eq!(deed(before, &off), Deed::Close, "{before:?}");
        }
        for same in [Wish::Unheard, nobody.clone(), on, off.clone()] {
            assert_eq!(deed(Some(&same), &same), Deed::Stay);
        }
        assert_eq!(deed(Some(&off), &nobody), Deed::Stay);
    }

    #[test]
    fn eyes_that_failed_are_tried_every_minute_and_those_that_never_opened_are_not() {
        let ever = u64::MAX;
        let mut again = Again::default();
        assert!(!again.is_due(ever));
        again.tried(false, 1);
        assert!(!again.is_due(ever) && !again.stop(), "the agent may not");
        again.tried(true, 2);
        assert!(!again.is_due(ever), "they are open");
        for n in 1..4 {
            let at_ns = n * 100 * SECOND;
            again.tried(false, at_ns);
            assert!(!again.is_due(at_ns + AGAIN_NS - 1) && again.is_due(at_ns + AGAIN_NS));
        }
        assert!(again.stop() && !again.is_due(ever) && !again.stop(), "a person closed them");
        again.tried(false, 2_000 * SECOND);
        assert!(again.is_due(ever), "and opened them: they could be once");
        again.tried(true, 3_000 * SECOND);
        assert!(!again.is_due(ever));
    }

    #[tokio::test]
    async fn the_colony_is_waited_for_until_it_says_something_and_not_for_ever() {
        let (lids, cancel) = (Lids::remembering("/nonexistent".into()), CancellationToken::new());
        let mut wish = lids.follow();
        // Comes back although nobody says anything.
        hear_first(&mut wish, Duration::from_millis(1), &cancel).await;
        assert_eq!(*wish.borrow_and_update(), Wish::Unheard);
        let ever = Duration::from_secs(86_400);
        let told = async { lids.hear(&v1::Eyes { at_ns: 1, ..Default::default() }) };
        tokio::join!(hear_first(&mut wish, ever, &cancel), told);
        assert!(matches!(*wish.borrow_and_update(), Wish::Closed(_)));
        let other = Lids::remembering("/nonexistent".into());
        cancel.cancel();
        hear_first(&mut other.follow(), ever, &cancel).await;
    }
}
