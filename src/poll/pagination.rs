//! How a listing goes on from page to page: a state machine that is told how each page ended and says whether there is another.
//! Pure. It trusts no provider: it ends only where the provider says so, and a listing that circles, shrinks its pages, leads
//! to another host or never ends is a fault, not an end.

use std::collections::HashSet;

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
    #[error("the next page's address `{0}` is no URL; check `pagination.next`")]
    BadAddress(String),
}

impl PageFault {
    /// The kind of problem that a person finds it under.
    pub fn problem(&self) -> ProblemKind {
        match self {
            PageFault::Loop(_) | PageFault::TooMany(_) => ProblemKind::PageLoop,
            PageFault::Clamped { .. } => ProblemKind::PageClamped,
            PageFault::OtherOrigin(_) => ProblemKind::HostRefused,
            PageFault::NoNext(_) => ProblemKind::AnswerPathMissing,
            PageFault::BadAddress(_) => ProblemKind::AnswerUnreadable,
        }
    }
}

/// What `{{ page.… }}` stands for in the next request; None is undefined and leaves its parameter out.
#[derive(Clone, Debug, Default, PartialEq)]
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
}

impl<'a> Pager<'a> {
    /// Stands before the first page.
    pub fn new(spec: &'a Pagination) -> Pager<'a> {
        let mut values = PageValues { size: spec.size, ..PageValues::default() };
        match spec.kind {
            PageKind::Page => values.number = Some(spec.first),
            PageKind::Offset => values.offset = Some(0),
            PageKind::None | PageKind::Token(_) | PageKind::LastId(_) | PageKind::LinkHeader | PageKind::NextUrl(_) => {
            }
        }
        Pager {
            spec,
            values,
            address: None,
            pages: 0,
            received: 0,
            before: None,
            used: HashSet::new(),
            digests: HashSet::new(),
        }
    }

    pub fn context(&self) -> &PageValues {
        &self.values
    }

    /// The whole address of the next page, where the provider gave one.
    pub fn address(&self) -> Option<&Url> {
        self.address.as_ref()
    }

    /// Pages taken in so far.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// A listing that is one page by its nature: only there may a 304 stand for the whole of it.
    pub fn single(spec: &Pagination) -> bool {
        matches!(spec.kind, PageKind::None)
    }

    /// Decides after a page that was asked for at `request_url`. `link_header`: all `Link` fields, joined with commas.
    pub fn next(&mut self, end: &PageEnd, link_header: Option<&str>, request_url: &Url) -> Result<Next, PageFault> {
        self.pages += 1;
        let records = u64::try_from(end.records).unwrap_or(u64::MAX);
        self.received = self.received.saturating_add(records);
        if end.records > 0 && !self.digests.insert(end.digest) {
            return Err(PageFault::Loop("one page came twice in a run".to_owned()));
        }
        self.check_size(end, records)?;
        self.before = Some(records);
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
        let short_of_total = self.pages == 1 && end.total.is_some_and(|total| total > records);
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
            let planted = planted::is(Fault::ClampUnnoticed);
            let asked = self.spec.size.filter(|_| planted).map(|size| size.saturating_mul(self.pages));
            self.values.offset = Some(asked.unwrap_or(self.received));
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
        self.address = Some(Url::parse(&address).expect("it was written by Url"));
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

fn resolve(target: &str, asked: &Url) -> Result<Url, PageFault> {
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
