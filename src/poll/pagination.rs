//! How a listing goes on from page to page: a state machine that is told how each page ended and says whether there is another.
//! Pure. It trusts no provider: it ends only where the provider says so, and a listing that circles, shrinks its pages, leads
//! to another host or never ends is a fault, not an end.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use url::Url;

use super::link;
use crate::ingest::PageEnd;
use crate::model::ProblemKind;
use crate::planted::{self, Fault};
use crate::provider::{PageKind, Pagination};

/// What follows a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Done,
    Page,
    /// The provider shows no more of this listing than it has shown: it must be split.
    Capped,
}

/// Why a listing cannot be trusted. The run fails; each message says what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PageFault {
    #[error(
        "the listing goes round in a circle: {0}; check `pagination` (does the request send {{{{ page.… }}}} under the right name?)"
    )]
    Loop(String),
    #[error(
        "the provider gives {got} records a page where {asked} were asked for, so that numbered pages may leave records out; \
         set `pagination.size` to {got}"
    )]
    Clamped { asked: u64, got: u64 },
    #[error(
        "the next page is on another host ({0}), where credentials must not go; if it is right, set `base_url` to that host"
    )]
    OtherOrigin(String),
    #[error(
        "the listing has more than {0} pages; narrow the request, ask for larger pages, or raise `pagination.max_pages`"
    )]
    TooMany(u64),
    #[error("{0}")]
    NoNext(String),
    #[error("the listing reached the provider's cap of {0} records (`pagination.split_at`) and cannot be split: {1}")]
    Capped(u64, &'static str),
    #[error("the next page's address `{0}` is no URL; check `pagination.next`")]
    BadAddress(String),
}

impl PageFault {
    /// The kind of problem that a person finds it under.
    pub fn problem(&self) -> ProblemKind {
        match self {
            PageFault::Loop(_) | PageFault::TooMany(_) => ProblemKind::PageLoop,
            PageFault::Clamped { .. } | PageFault::Capped(..) => ProblemKind::PageClamped,
            PageFault::OtherOrigin(_) => ProblemKind::HostRefused,
            PageFault::NoNext(_) => ProblemKind::AnswerPathMissing,
            PageFault::BadAddress(_) => ProblemKind::AnswerUnreadable,
        }
    }
}

/// What `{{ page.… }}` stands for in the next request; None is undefined and leaves its parameter out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PageValues {
    pub number: Option<i64>,
    pub offset: Option<u64>,
    pub size: Option<u64>,
    pub token: Option<String>,
    pub last_id: Option<String>,
}

/// Where one run's listing stands.
#[derive(Debug)]
pub struct Pager<'a> {
    spec: &'a Pagination,
    values: PageValues,
    address: Option<Url>,
    pages: u64,
    received: u64,
    /// Records of the page before this one.
    before: Option<u64>,
    /// Tokens, ids and addresses used so far.
    used: HashSet<String>,
    digests: HashSet<[u8; 16]>,
    /// A link led on by nothing but a number.
    counts: bool,
    /// What the last page declared as the number of all records.
    total: Option<u64>,
}

impl<'a> Pager<'a> {
    /// Stands before the first page; `address`: a link that an earlier run kept.
    pub fn new(spec: &'a Pagination, address: Option<Url>) -> Pager<'a> {
        Pager {
            spec,
            values: first_values(spec),
            address,
            pages: 0,
            received: 0,
            before: None,
            used: HashSet::new(),
            digests: HashSet::new(),
            counts: false,
            total: None,
        }
    }

    /// Stands before the first page of a listing that begins further on. That it does is what ends it: its first page may well be one
    /// that was seen, where all of it is of the tick that it begins with.
    pub fn restart(&mut self) {
        (self.values, self.address) = (first_values(self.spec), None);
        (self.received, self.before, self.total) = (0, None, None);
        self.used.clear();
        self.digests.clear();
    }

    pub fn context(&self) -> &PageValues {
        &self.values
    }

    /// The whole address of the next page, where the provider gave one.
    pub fn address(&self) -> Option<&Url> {
        self.address.as_ref()
    }

    /// The address to keep as the next run's start: of the next page where there is one, else of the page just read.
    pub fn kept(&self, asked: &Url, following: Option<&str>) -> Result<Url, PageFault> {
        following.map_or_else(|| Ok(asked.clone()), |target| resolve(target, asked))
    }

    /// Pages taken in so far.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Stands where an earlier run stopped, that had received so many records.
    pub fn resumed(spec: &'a Pagination, values: PageValues, address: Option<Url>, received: u64) -> Pager<'a> {
        Pager { values, received, ..Pager::new(spec, address) }
    }

    /// Records received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether a listing that ended with this page shows that it was all of it: by its declared number of records, and by the
    /// stream's own rule.
    pub fn proves(&self, end: &PageEnd) -> bool {
        end.total.is_none_or(|total| self.received >= total) && end.complete != Some(false)
    }

    /// Whether a listing that the provider ended by a page it declares to be none was all of it: only a declared number of records
    /// that is reached says so, unless nothing came before.
    pub fn ended_whole(&self) -> bool {
        self.pages == 0 || self.total.is_some_and(|total| self.received >= total)
    }

    /// Pages are counted by numbers, be it inside of links, so that rows may slip from one to the other.
    pub fn numbered(&self) -> bool {
        matches!(self.spec.kind, PageKind::Page | PageKind::Offset) || self.spec.numbered || self.counts
    }

    /// Decides after a page that was asked for at `request_url`. `link_header`: all `Link` fields, joined with commas.
    pub fn next(&mut self, end: &PageEnd, link_header: Option<&str>, request_url: &Url) -> Result<Next, PageFault> {
        self.pages += 1;
        let records = u64::try_from(end.records).unwrap_or(u64::MAX);
        self.received = self.received.saturating_add(records);
        self.total = end.total;
        if end.records > 0 && !self.digests.insert(end.digest) {
            return Err(PageFault::Loop("one page came twice in a run".to_owned()));
        }
        self.check_size(end, records)?;
        self.before = Some(records);
        if self.capped(end) {
            return Ok(Next::Capped);
        }
        if self.declared_end(end) {
            return Ok(Next::Done);
        }
        let next = match &self.spec.kind {
            PageKind::None => Next::Done,
            PageKind::Page => self.next_number(end),
            PageKind::Offset => self.next_offset(end)?,
            PageKind::Token(_) => self.next_token(end)?,
            PageKind::LastId(_) => self.next_last_id(end)?,
            PageKind::LinkHeader => {
                let target = link_header.and_then(|header| link::target(header, "next"));
                self.next_address(end, target, request_url)?
            }
            PageKind::NextUrl(_) => self.next_address(end, end.next.clone(), request_url)?,
        };
        if next == Next::Page && self.pages >= self.spec.max_pages {
            return Err(PageFault::TooMany(self.spec.max_pages));
        }
        Ok(next)
    }

    /// A provider with a result cap simply stops there; only a declared total that is reached says that this was all.
    fn capped(&self, end: &PageEnd) -> bool {
        let all = end.total.is_some_and(|total| self.received >= total);
        self.spec.split_at.is_some_and(|cap| self.received >= cap) && !all
    }

    /// `more` that says yes outweighs a total that is reached: records may have come in meanwhile.
    fn declared_end(&self, end: &PageEnd) -> bool {
        let total_reached = end.total.is_some_and(|total| self.received >= total) && end.more != Some(true);
        end.stop || end.more == Some(false) || total_reached
    }

    /// A provider that silently gives smaller pages than asked, yet counts its pages by the size asked, leaves out the rest of
    /// each. One short page is legal; two short ones of equal length, or a first one short of its own declared total, are not
    /// by chance. Offsets go on by what was received and tokens by the provider's own count: both are safe.
    fn check_size(&self, end: &PageEnd, records: u64) -> Result<(), PageFault> {
        let (PageKind::Page, Some(asked)) = (&self.spec.kind, self.spec.size) else { return Ok(()) };
        if records == 0 || records >= asked {
            return Ok(());
        }
        let constant = self.before == Some(records);
        let first = self.received == records;
        let short_of_total = first && end.total.is_some_and(|total| total > records);
        if constant || short_of_total { Err(PageFault::Clamped { asked, got: records }) } else { Ok(()) }
    }

    fn next_number(&mut self, end: &PageEnd) -> Next {
        if end.records == 0 && end.more != Some(true) {
            return Next::Done;
        }
        self.values.number = self.values.number.map(|number| number.saturating_add(1));
        Next::Page
    }

    /// On by the number of records received, never by the number asked for.
    fn next_offset(&mut self, end: &PageEnd) -> Result<Next, PageFault> {
        if end.records > 0 {
            let records = u64::try_from(end.records).unwrap_or(u64::MAX);
            // On by what came, not by what was asked for: a provider may give less without a word.
            let on = self.spec.size.filter(|_| planted::is(Fault::ClampUnnoticed)).unwrap_or(records);
            self.values.offset = self.values.offset.map(|offset| offset.saturating_add(on));
            return Ok(Next::Page);
        }
        match end.more {
            Some(true) => Err(PageFault::Loop("a page without records says that there are more".to_owned())),
            Some(false) | None => Ok(Next::Done),
        }
    }

    fn next_token(&mut self, end: &PageEnd) -> Result<Next, PageFault> {
        let Some(token) = self.fresh(end, end.next.clone(), "token")? else { return Ok(Next::Done) };
        self.values.token = Some(token);
        Ok(Next::Page)
    }

    fn next_last_id(&mut self, end: &PageEnd) -> Result<Next, PageFault> {
        if end.records > 0 && end.next.is_none() {
            let message = "`pagination.next` gives no id for the last record of a page; correct its path";
            return Err(PageFault::NoNext(message.to_owned()));
        }
        let Some(id) = self.fresh(end, end.next.clone(), "id")? else { return Ok(Next::Done) };
        self.values.last_id = Some(id);
        Ok(Next::Page)
    }

    /// A relative address starts at the request's; another origin is refused before anything is sent there.
    fn next_address(&mut self, end: &PageEnd, target: Option<String>, asked: &Url) -> Result<Next, PageFault> {
        self.used.insert(asked.to_string());
        let url = match target {
            Some(target) => Some(resolve(&target, asked)?),
            None => None,
        };
        let Some(address) = self.fresh(end, url.map(String::from), "address")? else { return Ok(Next::Done) };
        let url = Url::parse(&address).expect("it was written by Url");
        let records = u64::try_from(end.records).unwrap_or(u64::MAX);
        self.counts |= link::counts(asked, &url, &[Some(records), self.spec.size].map(Option::unwrap_or_default));
        self.address = Some(url);
        Ok(Next::Page)
    }

    /// The continuation, when it leads on. Its presence decides, not the number of records: an empty page with a new token is
    /// not the end (filtered listings have them). An empty page that repeats a token is: some providers never stop giving one.
    fn fresh(&mut self, end: &PageEnd, next: Option<String>, what: &str) -> Result<Option<String>, PageFault> {
        match next {
            Some(next) if self.used.insert(next.clone()) => Ok(Some(next)),
            Some(_) if end.records == 0 && end.more != Some(true) => Ok(None),
            Some(_) => Err(PageFault::Loop(format!("the next page's {what} was used before in this run"))),
            None if end.more == Some(true) => Err(PageFault::NoNext(format!(
                "the provider says that there is more (`pagination.more`) but gives no {what} for the next page; correct `pagination.next`"
            ))),
            None => Ok(None),
        }
    }
}

fn first_values(spec: &Pagination) -> PageValues {
    let mut values = PageValues { size: spec.size, ..PageValues::default() };
    match spec.kind {
        PageKind::Page => values.number = Some(spec.first),
        PageKind::Offset => values.offset = Some(0),
        PageKind::None | PageKind::Token(_) | PageKind::LastId(_) | PageKind::LinkHeader | PageKind::NextUrl(_) => {}
    }
    values
}

pub(super) fn resolve(target: &str, asked: &Url) -> Result<Url, PageFault> {
    let mut url = asked.join(target).map_err(|_| PageFault::BadAddress(target.to_owned()))?;
    if url.origin() != asked.origin() {
        return Err(PageFault::OtherOrigin(url.origin().ascii_serialization()));
    }
    url.set_fragment(None);
    // A name or password inside the link would be sent as ours; the origin has an authority, so that these cannot fail.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok(url)
}

#[cfg(test)]
#[path = "pagination_tests.rs"]
mod tests;
