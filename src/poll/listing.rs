//! What a run lists: pages of slices, as the stream declares (of parents: `children`). A listing that cannot be ended in one run says where
//! the next one goes on.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use url::Url;

use super::exchange::Unbuilt;
use super::pagination::{Next, PageFault, PageValues, Pager};
use super::run::{Pause, Run, Stop, links};
use super::sink::SinkRun;
use super::slices::Slices;
use super::verdict::{Cause, Failure};
use super::{conditional, link, pace, request};
use crate::ingest::{CursorValue, PageAnswer, PageEnd};
use crate::jq::Json;
use crate::model::Timestamp;
use crate::provider::{Conditional, CursorKind, CursorOrder, CursorSpec, Detect, PageKind};

/// How a run's listing ended.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub validators: Option<String>,
    /// Some parents could not be listed: why, in one sentence.
    pub failed: Option<Failure>,
    /// The run ended before its last parent; the next one goes on there.
    pub stopped: Option<Stop>,
}

/// Where a run that was stopped goes on: the next page to ask for, with the values it was asked with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    /// As marks are stored.
    cursor: Option<String>,
    run_start: i64,
    relists: bool,
    late: bool,
    slices: Option<Slices>,
    page: PageValues,
    address: Option<Url>,
    received: u64,
}

impl Run<'_> {
    /// Everything that this run has to list.
    pub(super) async fn list(&mut self, sink: &mut dyn SinkRun) -> Result<Listed, Stop> {
        if let Some(parent) = &self.polled.stream.spec.parent {
            return self.list_parents(parent, sink).await;
        }
        let point = sink.resume().and_then(|point| serde_json::from_str::<Point>(&point).ok());
        let point = match point {
            Some(point) if self.leads_home(point.address.as_ref())? => Some(point),
            Some(_) | None => None,
        };
        if let Some(point) = &point {
            self.frozen.cursor = point.cursor.as_deref().and_then(CursorValue::from_stored);
            self.frozen.run_start = Timestamp(point.run_start);
            (self.resumed, self.relists, self.late) = (true, point.relists, point.late);
        }
        let validators = self.list_slices(sink, point).await?;
        Ok(Listed { validators, ..Listed::default() })
    }

    /// One listing for each date slice, or the one there is. Gives the validators that stand for the whole.
    pub(super) async fn list_slices(
        &mut self,
        sink: &mut dyn SinkRun,
        mut point: Option<Point>,
    ) -> Result<Option<String>, Stop> {
        let Some(step) = self.polled.stream.spec.window else { return self.list_pages(sink, None, point).await };
        let until = self.polled.clock.at(self.frozen.run_start);
        let from = match self.frozen.cursor {
            Some(CursorValue::Time(from)) => from,
            Some(CursorValue::Number(_) | CursorValue::Text(_)) | None => until.minus(step),
        };
        let begun = point.as_ref().and_then(|point| point.slices);
        let mut slices = begun.unwrap_or_else(|| Slices::new(from, until, step));
        let mut guessed = self.polled.clock.skew().is_none();
        loop {
            self.frozen.window = Some(slices.current());
            match self.list_pages(sink, Some(slices), point.take()).await {
                Err(Stop::Capped(_)) if slices.halve() => continue,
                other => drop(other?),
            }
            if guessed && self.polled.clock.skew().is_some() {
                // A mark past the provider's own clock would leave behind what it dates in between.
                slices.reach(self.polled.clock.at(self.frozen.run_start));
                guessed = false;
            }
            if let Some(end) = slices.settled() {
                sink.passed(end);
            }
            if !slices.advance() {
                return Ok(None);
            }
        }
    }

    /// The pages of one listing.
    async fn list_pages(
        &mut self,
        sink: &mut dyn SinkRun,
        slices: Option<Slices>,
        point: Option<Point>,
    ) -> Result<Option<String>, Stop> {
        let spec = &self.polled.stream.spec;
        let mut pager = match point {
            Some(Point { page, address, received, .. }) => Pager::resumed(&spec.pagination, page, address, received),
            None => Pager::new(&spec.pagination, self.kept_link()?),
        };
        let (mut validators, mut counted) = (None, false);
        loop {
            let first = pager.pages() == 0;
            let request = self.request(&pager, first);
            let asked = self.ask(&request, self.pages > 0).await;
            if let (Err(Stop::Waits(until)), false) = (&asked, first) {
                // What was listed so far shall not be in vain for a quota.
                return Err(self.stop_here(sink, &pager, slices, Pause::Budget(*until)));
            }
            let Some((answer, url)) = asked? else {
                // "No such page" may be said of a page that was there a moment ago.
                if !pager.ended_whole() {
                    sink.unproven();
                }
                return Ok(None);
            };
            if first {
                validators = conditional::validators(&self.polled.stream, &answer.headers);
            }
            let link = links(&answer.headers);
            let page = self.answer(answer.body, answer.headers);
            let end = sink.page(page).await?;
            self.read(end.records);
            if std::mem::take(&mut counted) {
                match end.records {
                    0 => sink.holds(false),
                    _ => sink.drifts(),
                }
            }
            let next = pager.next(&end, link.as_deref(), &url)?;
            self.keep_link(&pager, &end, link.as_deref(), &url, sink)?;
            match next {
                Next::Done => {
                    if !pager.proves(&end) {
                        sink.unproven();
                    }
                    return Ok(self.stand_for_all(validators, &pager));
                }
                Next::Capped => self.split(&end, &mut pager, sink)?,
                Next::Page if self.steps_by_cursor(&end, &pager) => self.step(&end, &mut pager, sink),
                Next::Page if self.may_drift(&end, &pager) => sink.drifts(),
                Next::Page if self.shifts(&pager) => {
                    counted = true;
                    sink.holds(true);
                }
                Next::Page => {}
            }
            self.may_go_on(sink, &pager, slices)?;
        }
    }

    /// The provider's own time of the answer, or what its clock shows by our estimate.
    fn answer(&self, body: Bytes, headers: HeaderMap) -> PageAnswer {
        let estimated = self.polled.clock.skew().map(|_| self.polled.clock.at(self.clock.now()));
        PageAnswer { body, date: pace::date(&headers).or(estimated), headers }
    }

    /// Over several pages only where the file says that the first one's change with any record (RULES R6.4).
    fn stand_for_all(&self, validators: Option<String>, pager: &Pager<'_>) -> Option<String> {
        let stand = pager.pages() == 1 || self.polled.stream.spec.conditional == Conditional::List;
        validators.filter(|_| stand && !self.resumed)
    }

    /// The link that an earlier run ended with. It is our own request that says which host credentials go to: a link that was kept
    /// before `base_url` changed is not followed.
    fn kept_link(&self) -> Result<Option<Url>, Stop> {
        let Some((CursorKind::Link, CursorValue::Text(kept))) =
            self.polled.stream.spec.cursor.as_ref().map(|cursor| cursor.kind).zip(self.frozen.cursor.clone())
        else {
            return Ok(None);
        };
        let kept = Url::parse(&kept).ok();
        Ok(if self.leads_home(kept.as_ref())? { kept } else { None })
    }

    /// Whether an address that was stored leads to the host that our own request goes to.
    fn leads_home(&self, address: Option<&Url>) -> Result<bool, Stop> {
        let Some(address) = address else { return Ok(true) };
        let empty = Pager::new(&self.polled.stream.spec.pagination, None);
        let own = self.request(&empty, false).address(self.polled)?;
        Ok(own.origin() == address.origin())
    }

    /// Tells the sink which link to go on from, where the links are the cursor.
    fn keep_link(
        &self,
        pager: &Pager<'_>,
        end: &PageEnd,
        header: Option<&str>,
        asked: &Url,
        sink: &mut dyn SinkRun,
    ) -> Result<(), Stop> {
        let spec = &self.polled.stream.spec;
        let Some(cursor) = spec.cursor.as_ref().filter(|cursor| cursor.kind == CursorKind::Link) else { return Ok(()) };
        if cursor.answer.is_some() {
            return Ok(());
        }
        let following = match spec.pagination.kind {
            PageKind::LinkHeader => header.and_then(|header| link::target(header, "next")),
            _ => end.next.clone(),
        };
        sink.told(pager.kept(asked, following.as_deref())?.as_str());
        Ok(())
    }

    /// Whether to ask for the first page again from the last record on, in place of the next number: where the API filters by the
    /// cursor, in order, rows cannot slip between such pages (RULES R1.5).
    fn steps_by_cursor(&self, end: &PageEnd, pager: &Pager<'_>) -> bool {
        self.shifts(pager) && self.leads_on(end)
    }

    /// Whether rows may slip from one page to the other. A list whose last link is kept for the next run only grows at its end.
    fn shifts(&self, pager: &Pager<'_>) -> bool {
        let spec = &self.polled.stream.spec;
        let kept = spec.cursor.as_ref().is_some_and(|cursor| cursor.kind == CursorKind::Link);
        pager.numbered() && !spec.stable && !kept
    }

    fn full(&self, end: &PageEnd) -> bool {
        let records = u64::try_from(end.records).unwrap_or(u64::MAX);
        self.polled.stream.spec.pagination.size.is_none_or(|size| records >= size)
    }

    /// The cursor of a listing that the API filters by it, in its order.
    fn filtered_in_order(&self, end: &PageEnd) -> Option<&CursorSpec> {
        let spec = &self.polled.stream.spec;
        let asc = spec.cursor.as_ref().filter(|cursor| cursor.order == CursorOrder::Asc && !end.disordered);
        asc.filter(|_| spec.asks_by_cursor(&self.polled.source.provider.request))
    }

    /// Whether the filter, asked from the page's last record on, leaves out what came before.
    fn leads_on(&self, end: &PageEnd) -> bool {
        let spec = &self.polled.stream.spec;
        let Some(cursor) = self.filtered_in_order(end) else { return false };
        match (&end.last, &self.frozen.cursor) {
            (Some(CursorValue::Time(last)), Some(CursorValue::Time(asked))) => {
                let zone = cursor.timezone.or(spec.timezone).or(self.polled.source.provider.timezone);
                let down = |time| request::round_down(time, cursor, zone);
                down(*last) > down(*asked)
            }
            (Some(CursorValue::Number(last)), Some(CursorValue::Number(asked))) => {
                crate::ingest::number_after(last, asked)
            }
            (Some(CursorValue::Time(_) | CursorValue::Number(_)), None) => cursor.inclusive,
            _ => false,
        }
    }

    /// The one exception to frozen query values (RULES R1.5).
    fn step(&mut self, end: &PageEnd, pager: &mut Pager<'_>, sink: &mut dyn SinkRun) {
        self.frozen.cursor = end.last.clone();
        sink.steps();
        pager.restart();
    }

    /// A listing that reached the provider's result cap goes on from its last record; a slice of it is made shorter.
    fn split(&mut self, end: &PageEnd, pager: &mut Pager<'_>, sink: &mut dyn SinkRun) -> Result<(), Stop> {
        if self.leads_on(end) {
            self.step(end, pager, sink);
            return Ok(());
        }
        Err(Stop::Capped(self.polled.stream.spec.pagination.split_at.unwrap_or_default()))
    }

    /// Whether a row may have slipped from a page to come into one that was read: not while one short page is all. Of a listing that
    /// is stepped through by its cursor only the pages of one tick are counted, and what they show decides.
    fn may_drift(&self, end: &PageEnd, pager: &Pager<'_>) -> bool {
        let several = self.full(end) || (pager.pages() > 1 && end.records > 0);
        self.shifts(pager) && several && self.filtered_in_order(end).is_none()
    }

    /// Between two pages: the run's time and its cap (RULES R1.4).
    fn may_go_on(&self, sink: &dyn SinkRun, pager: &Pager<'_>, slices: Option<Slices>) -> Result<(), Stop> {
        let progress = sink.progress();
        if progress.straight {
            // What is committed has moved the mark: the mark itself is where the next run goes on.
            let enough = progress.events >= self.polled.stream.max_per_run || self.overdue();
            return if enough && progress.moved { Err(Stop::Paused) } else { Ok(()) };
        }
        // Within one parent there is nothing to keep: the next run begins with it.
        if !self.overdue() || self.frozen.parent.is_some() || self.polled.stream.spec.detect == Detect::Document {
            return Ok(());
        }
        Err(self.stop_here(sink, pager, slices, Pause::Time))
    }

    /// Stops before the next page, where there is something to keep beside the mark.
    fn stop_here(&self, sink: &dyn SinkRun, pager: &Pager<'_>, slices: Option<Slices>, pause: Pause) -> Stop {
        if let (Pause::Budget(until), true) = (pause, sink.progress().straight || self.frozen.parent.is_some()) {
            return Stop::Waits(until);
        }
        let point = Point {
            cursor: self.frozen.cursor.as_ref().map(CursorValue::to_stored),
            run_start: self.frozen.run_start.0,
            relists: self.relists,
            late: self.late,
            slices,
            page: pager.context().clone(),
            address: pager.address().cloned(),
            received: pager.received(),
        };
        Stop::At(Box::new(point), pause)
    }

    /// Whether the run has had its time.
    pub(super) fn overdue(&self) -> bool {
        self.clock.now().since(self.began) >= self.deadline
    }

    /// What the next page is asked for with; it is built anew for every try.
    fn request(&self, pager: &Pager<'_>, first: bool) -> Unbuilt<'static> {
        let (source, stream) = (&self.polled.source, &self.polled.stream);
        Unbuilt {
            context: request::context(source, stream, &self.frozen, pager.context(), self.clock.now()),
            address: pager.address().cloned(),
            confirm: None,
            conditions: if first { self.conditions.clone() } else { Vec::new() },
        }
    }
}

impl Point {
    pub fn to_stored(&self) -> String {
        serde_json::to_string(self).expect("numbers, texts and an address are JSON")
    }
}

impl From<PageFault> for Stop {
    fn from(fault: PageFault) -> Stop {
        Stop::Failed(Failure::new(Cause::Lasting(fault.problem()), fault.to_string()))
    }
}

/// How long a run may take beyond its time, for the answer that it is waiting for.
pub(super) const OVERTIME: Duration = Duration::from_secs(120);

/// `$parent` of a listing.
pub(super) fn parent_vars(parent: &Option<Json>) -> Json {
    parent.clone().unwrap_or_else(|| Json::from(serde_json::Value::Null))
}
