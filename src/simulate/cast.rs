//! All simulated streams: how each provider lists and misbehaves, and what its file says of that. A provider misbehaves only in ways
//! that its file says the daemon must survive; each `lag`, `lookback` and the like stands in both.

use super::shapes::{Gone, Order, Shape};

const PLAIN: Shape = Shape {
    name: "",
    file: "",
    order: Order::ById,
    gone: Gone::Never,
    paged: false,
    tick: 1000,
    lag: 0,
    future: false,
    quiet_edits: false,
    webhooks: false,
    last_words: false,
    document: false,
    families: false,
    cap: None,
    tagged: false,
    sends_all: false,
    looks_back: false,
    guarded: false,
};

/// All simulated streams.
pub static SHAPES: [Shape; 31] = [
    Shape {
        name: "snapshot",
        file: r#"
            detect = "snapshot"
            deletes = { max_percent = 100 }
        "#,
        gone: Gone::Absent,
        quiet_edits: true,
        ..PLAIN
    },
    Shape {
        name: "snapshot-paged",
        file: r#"
            detect = "snapshot"
            deletes = { max_percent = 100, confirm_after = 1 }
            version = { field = ".rev", type = "number" }
            query = { after = "{{ page.token }}" }
            pagination = { type = "token", next = ".next" }
        "#,
        gone: Gone::Absent,
        paged: true,
        quiet_edits: true,
        ..PLAIN
    },
    Shape {
        name: "rising",
        file: r#"
            detect = "changed"
            version = ".updatedAt"
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".updatedAt", order = "asc" }
            pagination = { type = "token", next = ".next" }
            deletes = { when = ".gone" }
        "#,
        order: Order::Rising,
        gone: Gone::Flagged,
        paged: true,
        ..PLAIN
    },
    Shape {
        name: "rising-fine",
        file: r#"
            detect = "changed"
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".updatedAt", order = "asc" }
            pagination = { type = "token", next = ".next" }
        "#,
        order: Order::Rising,
        paged: true,
        tick: 1,
        ..PLAIN
    },
    Shape {
        name: "falling",
        file: r#"
            detect = "changed"
            version = ".updatedAt"
            query = { since = "{{ cursor }}" }
            cursor = { field = ".updatedAt", order = "desc" }
            pagination = { type = "next_url", next = ".next_url" }
        "#,
        order: Order::Falling,
        paged: true,
        ..PLAIN
    },
    Shape {
        name: "unordered",
        file: r#"
            detect = "changed"
            version = { field = ".rev", type = "number" }
            query = { since = "{{ cursor }}", after = "{{ page.last_id }}" }
            cursor = { field = ".updatedAt" }
            pagination = { type = "last_id", next = ".id" }
            deletes = { when = ".gone" }
        "#,
        gone: Gone::Flagged,
        paged: true,
        ..PLAIN
    },
    Shape {
        name: "lagging",
        file: r#"
            detect = "changed"
            version = { field = ".rev", type = "number" }
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".updatedAt", order = "asc", lookback = "20s" }
            pagination = { type = "token", next = ".next" }
        "#,
        order: Order::Rising,
        paged: true,
        lag: 18_000,
        ..PLAIN
    },
    Shape {
        name: "future",
        file: r#"
            detect = "changed"
            version = { field = ".rev", type = "number" }
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".updatedAt", order = "asc" }
            pagination = { type = "token", next = ".next" }
        "#,
        order: Order::Rising,
        paged: true,
        future: true,
        ..PLAIN
    },
    Shape {
        name: "log",
        file: r#"
            detect = "new"
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".seq", type = "number", order = "asc" }
            pagination = { type = "token", next = ".next" }
        "#,
        order: Order::Log,
        paged: true,
        ..PLAIN
    },
    Shape {
        name: "hooked",
        file: r#"
            detect = "changed"
            version = { field = ".rev", type = "number" }
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".updatedAt", order = "asc" }
            pagination = { type = "token", next = ".next" }
            deletes = { when = ".gone" }
        "#,
        order: Order::Rising,
        gone: Gone::Flagged,
        paged: true,
        webhooks: true,
        ..PLAIN
    },
    Shape {
        name: "hooked-snapshot",
        file: r#"
            detect = "snapshot"
            deletes = { max_percent = 100 }
            version = { field = ".rev", type = "number" }
            query = { after = "{{ page.token }}" }
            pagination = { type = "token", next = ".next" }
        "#,
        gone: Gone::Absent,
        paged: true,
        webhooks: true,
        last_words: true,
        ..PLAIN
    },
    Shape {
        name: "trailing",
        file: r#"
            detect = "changed"
            version = { field = ".rev", type = "number" }
            lag = "20s"
            query = { after = "{{ page.token }}" }
            pagination = { type = "token", next = ".next" }
            deletes = { when = ".gone" }
        "#,
        gone: Gone::Flagged,
        paged: true,
        lag: 18_000,
        webhooks: true,
        ..PLAIN
    },
    Shape {
        name: "linked",
        file: r#"
            detect = "changed"
            version = ".updatedAt"
            query = { since = "{{ cursor }}" }
            cursor = { field = ".updatedAt", order = "asc" }
            pagination = { type = "link_header" }
        "#,
        order: Order::Rising,
        paged: true,
        ..PLAIN
    },
    Shape {
        name: "noticed",
        file: r#"
            detect = "changed"
            query = { since = "{{ cursor }}" }
            cursor = { field = ".updatedAt", order = "desc" }
            pagination = { type = "next_url", next = ".next_url" }
        "#,
        order: Order::Falling,
        paged: true,
        webhooks: true,
        ..PLAIN
    },
    Shape {
        name: "offset",
        file: r#"
            detect = "new"
            query = { since = "{{ cursor }}", offset = "{{ page.offset }}", limit = "{{ page.size }}" }
            cursor = { field = ".seq", type = "number", order = "asc" }
            pagination = { type = "offset", size = 3 }
        "#,
        order: Order::Log,
        paged: true,
        ..PLAIN
    },
    Shape {
        name: "numbered",
        // A log: a row that leaves its place within one tick would take others with it to a page that was read (RULES R1.5 counts
        // by numbers there).
        file: r#"
            detect = "new"
            query = { since = "{{ cursor }}", page = "{{ page.number }}", limit = "{{ page.size }}" }
            cursor = { field = ".seq", type = "number", order = "asc" }
            pagination = { type = "page", size = 3 }
        "#,
        order: Order::Log,
        paged: true,
        ..PLAIN
    },
    Shape {
        name: "numbered-newest",
        file: r#"
            detect = "changed"
            query = { since = "{{ cursor }}", page = "{{ page.number }}", limit = "{{ page.size }}" }
            cursor = { field = ".updatedAt", order = "desc" }
            pagination = { type = "page", first = 0, size = 2 }
        "#,
        order: Order::Falling,
        paged: true,
        ..PLAIN
    },
    Shape {
        name: "numbered-snapshot",
        file: r#"
            detect = "snapshot"
            deletes = { max_percent = 100 }
            query = { offset = "{{ page.offset }}", limit = "{{ page.size }}" }
            pagination = { type = "offset", size = 2, total = ".total" }
        "#,
        gone: Gone::Absent,
        paged: true,
        ..PLAIN
    },
    Shape {
        name: "hooked-log",
        file: r#"
            detect = "new"
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".seq", type = "number", order = "asc" }
            pagination = { type = "token", next = ".next" }
        "#,
        order: Order::Log,
        paged: true,
        webhooks: true,
        ..PLAIN
    },
    Shape {
        name: "document",
        file: r#"
            detect = "document"
        "#,
        document: true,
        quiet_edits: true,
        ..PLAIN
    },
    Shape {
        name: "families",
        file: r#"
            detect = "changed"
            version = { field = ".rev", type = "number" }
            parent = { values = ["p0", "p1", "p2"] }
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".updatedAt", order = "asc" }
            pagination = { type = "token", next = ".next" }
            deletes = { when = ".gone" }
        "#,
        order: Order::Rising,
        gone: Gone::Flagged,
        paged: true,
        families: true,
        ..PLAIN
    },
    Shape {
        name: "families-snapshot",
        file: r#"
            detect = "snapshot"
            parent = { values = ["p0", "p1", "p2"] }
            query = { after = "{{ page.token }}" }
            pagination = { type = "token", next = ".next" }
            deletes = { max_percent = 100 }
        "#,
        gone: Gone::Absent,
        paged: true,
        families: true,
        ..PLAIN
    },
    Shape {
        name: "sliced",
        file: r#"
            detect = "changed"
            version = { field = ".rev", type = "number" }
            query = { from = "{{ window.start }}", until = "{{ window.end }}", after = "{{ page.token }}" }
            cursor = { field = ".updatedAt", start = "8m" }
            window = { step = "1m" }
            pagination = { type = "token", next = ".next", split_at = 6 }
        "#,
        order: Order::Rising,
        paged: true,
        tick: 1,
        cap: Some(6),
        ..PLAIN
    },
    Shape {
        name: "capped",
        file: r#"
            detect = "changed"
            version = { field = ".rev", type = "number" }
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".updatedAt", order = "asc", precision = "1ms" }
            pagination = { type = "token", next = ".next", split_at = 6 }
        "#,
        order: Order::Rising,
        paged: true,
        tick: 1,
        cap: Some(6),
        // What it steps through in a run may lie past the provider's clock, which the mark never does.
        looks_back: true,
        ..PLAIN
    },
    Shape {
        name: "late",
        file: r#"
            detect = "changed"
            version = { field = ".rev", type = "number" }
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".updatedAt", order = "asc" }
            late = { lag = "60s", window = "30s", every = "20s" }
            pagination = { type = "token", next = ".next" }
        "#,
        order: Order::Rising,
        paged: true,
        lag: 58_000,
        looks_back: true,
        ..PLAIN
    },
    Shape {
        name: "settling",
        file: r#"
            detect = "changed"
            version = { field = ".rev", type = "number" }
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".updatedAt", order = "asc", settle = "6s" }
            pagination = { type = "token", next = ".next" }
        "#,
        order: Order::Rising,
        paged: true,
        lag: 3_500,
        ..PLAIN
    },
    Shape {
        name: "link-kept",
        file: r#"
            detect = "new"
            cursor = { type = "link" }
            pagination = { type = "next_url", next = ".next_url" }
        "#,
        order: Order::Log,
        paged: true,
        ..PLAIN
    },
    Shape {
        name: "tagged",
        file: r#"
            detect = "snapshot"
            deletes = { max_percent = 100 }
            conditional = true
        "#,
        gone: Gone::Absent,
        tagged: true,
        ..PLAIN
    },
    Shape {
        name: "send-all",
        file: r#"
            detect = "changed"
            version = { field = ".rev", type = "number" }
            first_run = "send-all"
            query = { since = "{{ cursor }}", after = "{{ page.token }}" }
            cursor = { field = ".updatedAt", order = "asc" }
            pagination = { type = "token", next = ".next" }
            deletes = { when = ".gone" }
        "#,
        order: Order::Rising,
        gone: Gone::Flagged,
        paged: true,
        sends_all: true,
        ..PLAIN
    },
    Shape {
        name: "send-all-newest",
        file: r#"
            detect = "changed"
            first_run = "send-all"
            query = { since = "{{ cursor }}" }
            cursor = { field = ".updatedAt", order = "desc" }
            pagination = { type = "next_url", next = ".next_url" }
        "#,
        order: Order::Falling,
        paged: true,
        sends_all: true,
        ..PLAIN
    },
    Shape {
        name: "guarded",
        file: r#"
            detect = "snapshot"
            deletes = { max_count = 1, confirm_after = 1 }
            query = { after = "{{ page.token }}" }
            pagination = { type = "token", next = ".next" }
        "#,
        gone: Gone::Absent,
        paged: true,
        guarded: true,
        ..PLAIN
    },
];
