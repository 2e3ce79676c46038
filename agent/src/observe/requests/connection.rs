//! One connection of HTTP/1.1 as one of its ends sees it: requests are matched with their responses.
//!
//! Which end it is shows in what it does: who reads requests serves, who writes them asks. Responses
//! come in the order of their requests (RFC 9112, 9.3.2), so keep-alive and pipelining need no more
//! than a queue. A connection that is older than the agent is understood from the next message on.
//!
//! What is lost is said: requests or responses of which nothing can be told are counted as unknown, and
//! those that waited when responses were lost are no longer waited for.

use std::collections::VecDeque;

use super::exchange::{Exchange, Reader, Role, Told, Waits, Way};
use super::head::{Framing, Request, Response, Side, begins};
use super::route;
use super::stream::{Piece, Step, Stream};
use crate::reduce::Answer;

/// Requests that may wait for their responses on one connection.
const PIPELINED: usize = 1_024;

/// See [`Connection::settle`].
const QUIET_NS: u64 = 1_000_000_000;

#[derive(Debug)]
struct Pending {
    request: Request,
    start_ns: u64,
    ordinal: u64,
    status: Option<u16>,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    role: Option<Role>,
    requests: Stream,
    responses: Stream,
    pending: VecDeque<Pending>,
    /// The response that is under way answers the first of them.
    answering: bool,
    ordinal: u64,
    /// When the head that is being read began.
    began_ns: u64,
    /// When the last byte of a response passed.
    answered_ns: u64,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            role: None,
            requests: Stream::new(Side::Requests),
            responses: Stream::new(Side::Responses),
            pending: VecDeque::new(),
            answering: false,
            ordinal: 0,
            began_ns: 0,
            answered_ns: 0,
        }
    }
}

impl Reader for Connection {
    fn role(&self) -> Option<Role> {
        self.role
    }

    fn waiting(&self) -> Option<Waits> {
        let oldest = self.pending.front()?;
        let began = (oldest.start_ns, oldest.request.parent.trace);
        Some(Waits { count: self.pending.len() as u64, oldest: Some(began) })
    }

    fn piece(&mut self, way: Way, at_ns: u64, piece: Piece<'_>, out: &mut Vec<Told>) {
        if self.role.is_none() {
            self.role = match begins(piece.bytes) {
                Some(Side::Requests) => Some(Role::of_requests(way)),
                Some(Side::Responses) => Some(Role::of_responses(way)),
                None => return,
            };
        }
        match (self.role, way) {
            (Some(Role::Server), Way::Received) | (Some(Role::Client), Way::Sent) => {
                self.requested(at_ns, piece, out);
            }
            _ => self.responded(at_ns, piece, out),
        }
    }

    /// A response whose end was lost is over when nothing of it came for a while.
    fn settle(&mut self, now_ns: u64, out: &mut Vec<Told>) {
        let answered = !self.answering && self.pending.front().is_some_and(|p| p.status.is_some());
        if answered && now_ns.saturating_sub(self.answered_ns) > QUIET_NS {
            self.finish(self.answered_ns, out);
        }
    }

    fn ended(&mut self, at_ns: u64, out: &mut Vec<Told>) {
        self.answering = false;
        while let Some(first) = self.pending.front() {
            let end_ns = if first.status.is_some() { self.answered_ns } else { at_ns };
            self.finish(end_ns, out);
        }
        self.responses.lose();
    }
}

impl Connection {
    fn requested(&mut self, at_ns: u64, mut piece: Piece<'_>, out: &mut Vec<Told>) {
        loop {
            if self.requests.is_between() {
                self.began_ns = at_ns;
            }
            match self.requests.next(&mut piece) {
                Step::Idle => return,
                Step::End => {}
                Step::Lost => out.push(Told::Unknown(1)),
                Step::Head(head) => match Request::parse(&head) {
                    Ok(request) => {
                        self.requests.body(request.framing);
                        self.began(request, out);
                    }
                    Err(_) => {
                        self.requests.lose();
                        out.push(Told::Unknown(1));
                    }
                },
                Step::CutHead(head) => match Request::parse_line(&head) {
                    Ok(request) => self.began(request, out),
                    Err(_) => out.push(Told::Unknown(1)),
                },
            }
        }
    }

    fn began(&mut self, request: Request, out: &mut Vec<Told>) {
        // One whose response's end was lost has ended when the next request comes.
        if !self.answering && self.pending.front().is_some_and(|p| p.status.is_some()) {
            self.finish(self.answered_ns, out);
        }
        if self.pending.len() >= PIPELINED {
            out.push(Told::Unknown(1));
            return;
        }
        let (start_ns, ordinal) = (self.began_ns, self.ordinal);
        self.ordinal += 1;
        self.pending.push_back(Pending { request, start_ns, ordinal, status: None });
    }

    fn responded(&mut self, at_ns: u64, mut piece: Piece<'_>, out: &mut Vec<Told>) {
        // It may be what somebody waits for, unless it is the rest of a response that was told of.
        let of_another = self.pending.front().is_none_or(|p| p.status.is_none());
        if of_another && self.responses.passes_over(&piece) {
            self.response_lost(out);
        }
        loop {
            match self.responses.next(&mut piece) {
                Step::Idle => break,
                Step::End if self.answering => {
                    self.answering = false;
                    self.finish(at_ns, out);
                }
                Step::End => {}
                Step::Lost | Step::CutHead(_) => self.response_lost(out),
                Step::Head(head) => match Response::parse(&head) {
                    Ok(response) => self.answer(response, at_ns, out),
                    Err(_) => {
                        self.responses.lose();
                        self.response_lost(out);
                    }
                },
            }
        }
        self.answered_ns = at_ns;
    }

    fn answer(&mut self, response: Response, at_ns: u64, out: &mut Vec<Told>) {
        let Response { status, mut framing } = response;
        if (100..200).contains(&status) && status != 101 {
            self.responses.body(Framing::Length(0));
            return;
        }
        if self.pending.front().is_some_and(|p| p.status.is_some()) {
            self.finish(self.answered_ns, out);
        }
        let Some(first) = self.pending.front_mut() else {
            // Its request came before the agent, or was lost.
            out.push(Told::Unknown(1));
            self.responses.body(bodiless(status).unwrap_or(framing));
            return;
        };
        first.status = Some(status);
        let method = first.request.method;
        let tunnel = status == 101 || method == "CONNECT" && (200..300).contains(&status);
        if tunnel {
            self.requests.body(Framing::Close);
            self.responses.body(Framing::Close);
            self.finish(at_ns, out);
            return;
        }
        if method == "HEAD" {
            framing = Framing::Length(0);
        }
        self.responses.body(bodiless(status).unwrap_or(framing));
        self.answering = true;
    }

    /// How the response that is under way ends is not known, and what others said neither.
    fn response_lost(&mut self, out: &mut Vec<Told>) {
        self.answering = false;
        let before = self.pending.len();
        self.pending.retain(|p| p.status.is_some());
        let dropped = before - self.pending.len();
        if dropped > 0 {
            out.push(Told::Unknown(dropped as u64));
        }
    }

    fn finish(&mut self, end_ns: u64, out: &mut Vec<Told>) {
        let (Some(done), Some(role)) = (self.pending.pop_front(), self.role) else { return };
        out.push(Told::Exchange(Exchange {
            role,
            operation: format!(
                "{} {}",
                done.request.method,
                route::of(&done.request.path, done.status)
            )
            .into(),
            answer: done.status.map_or(Answer::None, Answer::Status),
            start_ns: done.start_ns,
            end_ns: end_ns.max(done.start_ns),
            ordinal: done.ordinal,
            parent: done.request.parent,
        }));
    }
}

/// Statuses whose responses have no body, whatever their head says (RFC 9112, 6.3).
fn bodiless(status: u16) -> Option<Framing> {
    matches!(status, 204 | 304).then_some(Framing::Length(0))
}

#[cfg(test)]
mod tests;
