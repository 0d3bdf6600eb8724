//! The overview page: problems first, then sources, handlers and the last events. Rendered here, no scripts, nothing from
//! elsewhere; it reloads itself.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{Html, IntoResponse, Response};

use super::order::Refused;
use super::shape::{EventPage, EventSummary, Handler, Problem, Status, Stream, Time};
use super::{Admin, human, view};
use crate::model::Timestamp;
use crate::store::EventFilter;

const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Events shown on the overview.
const EVENTS: usize = 20;

pub async fn overview(State(admin): State<Admin>) -> Result<Response, Refused> {
    let status = view::status(&*admin.store, admin.clock.now(), true).await?;
    let events = view::events(&*admin.store, EventFilter { limit: EVENTS, ..EventFilter::default() }).await?;
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Html(render(&status, &events))).into_response())
}

pub async fn style() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

fn render(status: &Status, events: &EventPage) -> String {
    let now = status.now.0;
    let mut page = String::with_capacity(16 * 1024);
    page.push_str(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Ringback</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta http-equiv=\"refresh\" content=\"10\">\
         <link rel=\"stylesheet\" href=\"/style.css\"></head><body>",
    );
    let _ = write!(
        page,
        "<header><h1>Ringback</h1><p>version {}, {}</p></header><main>",
        escape(&status.version),
        time(status.now)
    );
    problems(&mut page, &status.problems, now);
    streams(&mut page, &status.streams, now);
    handlers(&mut page, &status.handlers, now);
    inbox(&mut page, status);
    last_events(&mut page, &events.events);
    page.push_str("</main></body></html>\n");
    page
}

fn problems(page: &mut String, problems: &[Problem], now: Timestamp) {
    if problems.is_empty() {
        page.push_str("<section class=\"good\"><h2>No problems</h2></section>");
        return;
    }
    let _ = write!(
        page,
        "<section class=\"bad\"><h2>{}</h2>",
        human::counted(problems.len() as u64, "problem", "problems")
    );
    for problem in problems {
        let seen = if problem.acknowledged { " (acknowledged)" } else { "" };
        let _ = write!(
            page,
            "<article><h3>{} <span>{}</span>{seen}</h3><p>{}</p><p class=\"dim\">since {} ({}), seen {}</p></article>",
            escape(&problem.kind),
            escape(&problem.subject),
            escape(&problem.message),
            time(problem.opened_at),
            human::from_now(problem.opened_at.0, now),
            human::counted(problem.count, "time", "times"),
        );
    }
    page.push_str("</section>");
}

fn streams(page: &mut String, streams: &[Stream], now: Timestamp) {
    page.push_str("<section><h2>Streams</h2>");
    if streams.is_empty() {
        page.push_str("<p>No source is configured.</p></section>");
        return;
    }
    let names = ["stream", "state", "records", "last poll", "changes", "next poll"];
    begin_table(page, &names);
    for stream in streams {
        let ago = |at: Option<Time>| at.map_or("never".to_owned(), |Time(at)| human::from_now(at, now));
        let next = stream.next_poll_at.map_or("-".to_owned(), |Time(at)| human::from_now(at, now));
        let cells = [
            escape(&stream.name()),
            escape(&stream.state()),
            human::count(stream.records),
            ago(stream.last_poll_at),
            human::count(stream.last_changes),
            next,
        ];
        row(page, &cells, stream.last_error.as_deref());
    }
    page.push_str("</tbody></table></section>");
}

fn handlers(page: &mut String, handlers: &[Handler], now: Timestamp) {
    page.push_str("<section><h2>Handlers</h2>");
    if handlers.is_empty() {
        page.push_str("<p>No handler is configured: events are stored and go nowhere.</p></section>");
        return;
    }
    begin_table(page, &["handler", "state", "waiting", "oldest", "held", "failed", "delivered"]);
    for handler in handlers {
        let name = match &handler.temporary {
            Some(temporary) => format!("{} (temporary, to {})", handler.name, temporary.url),
            None => handler.name.clone(),
        };
        let cells = [
            escape(&name),
            escape(&handler.state(now)),
            human::count(handler.pending + handler.claimed),
            handler.oldest_pending_at.map_or("-".to_owned(), |Time(at)| human::from_now(at, now)),
            human::count(handler.held),
            human::count(handler.failed),
            human::count(handler.delivered),
        ];
        let error = handler.last_attempt.as_ref().and_then(|attempt| attempt.error.as_deref());
        row(page, &cells, error);
    }
    page.push_str("</tbody></table></section>");
}

fn inbox(page: &mut String, status: &Status) {
    let inbox = &status.inbox;
    let _ = write!(
        page,
        "<section><h2>Real webhooks</h2><p>{} waiting, {} ignored, {} unreadable</p></section>",
        human::count(inbox.pending),
        human::count(inbox.ignored),
        human::count(inbox.unreadable)
    );
}

fn last_events(page: &mut String, events: &[EventSummary]) {
    page.push_str("<section><h2>Last events</h2>");
    if events.is_empty() {
        page.push_str("<p>None yet. The first look at a stream remembers and says nothing.</p></section>");
        return;
    }
    begin_table(page, &["seen", "stream", "type", "key", "deliveries", "id"]);
    for event in events {
        let deliveries: Vec<String> = event.deliveries.iter().map(|d| format!("{} {}", d.handler, d.state)).collect();
        let cells = [
            time(event.seen_at),
            escape(&format!("{}/{}", event.source, event.stream)),
            escape(&event.event_type),
            escape(&event.key),
            escape(&deliveries.join(", ")),
            format!("<code>{}</code>", escape(&event.id)),
        ];
        row(page, &cells, None);
    }
    page.push_str("</tbody></table></section>");
}

fn begin_table(page: &mut String, names: &[&str]) {
    page.push_str("<table><thead><tr>");
    for name in names {
        let _ = write!(page, "<th scope=\"col\">{name}</th>");
    }
    page.push_str("</tr></thead><tbody>");
}

/// A row of cells that are HTML already, and below it the error, which is not.
fn row(page: &mut String, cells: &[String], error: Option<&str>) {
    page.push_str("<tr>");
    for cell in cells {
        let _ = write!(page, "<td>{cell}</td>");
    }
    page.push_str("</tr>");
    if let Some(error) = error {
        let _ = write!(page, "<tr class=\"error\"><td colspan=\"{}\">{}</td></tr>", cells.len(), escape(error));
    }
}

fn time(at: Time) -> String {
    format!("<time datetime=\"{}\">{}</time>", at.0, at.0.to_utc().format("%Y-%m-%d %H:%M:%S UTC"))
}

/// Text that cannot become markup, in content and in quoted attributes alike.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

const STYLE: &str = ":root{color-scheme:light dark;--dim:#666;--line:#ddd;--bad:#b00020;--good:#1b7a3d}\
@media(prefers-color-scheme:dark){:root{--dim:#999;--line:#333;--bad:#ff6b7d;--good:#5cc98a}}\
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:76rem;padding:1rem}\
header{display:flex;gap:1rem;align-items:baseline}header p,.dim{color:var(--dim)}h1{font-size:1.4rem;margin:0}\
h2{font-size:1.1rem;margin:1.5rem 0 .5rem}h3{font-size:1rem;margin:.75rem 0 0}h3 span{font-weight:normal}\
article p{margin:.1rem 0}.bad{border-left:4px solid var(--bad);padding-left:1rem}.bad h2{color:var(--bad)}\
.good h2{color:var(--good)}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}\
th{color:var(--dim);font-weight:normal}.error td{color:var(--bad);border-bottom:1px solid var(--line)}\
section{overflow-x:auto}";

#[cfg(test)]
mod tests {
    use super::super::tests::sample_status;
    use super::*;

    #[test]
    fn what_a_provider_wrote_cannot_become_markup() {
        let mut status = sample_status();
        status.problems[0].message = "<script>alert('x')</script>".into();
        status.streams[0].last_error = Some("<img src=x onerror=alert(1)>".into());
        let page = render(&status, &EventPage { events: Vec::new(), next: None });
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    }

    #[test]
    fn problems_stand_before_everything_else() {
        let page = render(&sample_status(), &EventPage { events: Vec::new(), next: None });
        let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is missing in {page}"));
        assert!(place("auth.failed") < place("core/payments"));
        assert!(place("core/payments") < place("billing"));
    }

    #[test]
    fn nothing_of_the_page_comes_from_elsewhere() {
        let page = render(&sample_status(), &EventPage { events: Vec::new(), next: None });
        for elsewhere in ["http://", "https://", "src=", "url("] {
            assert!(!page.contains(elsewhere) && !STYLE.contains(elsewhere), "{elsewhere}");
        }
    }
}
