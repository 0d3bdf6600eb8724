//! What a parent hands down to the changes of its children, whenever they go out.

use super::kit::*;

fn streams(child: &str) -> String {
    format!(
        "[streams.accounts]\npath = \"/accounts\"\nrecords = \".items\"\nkey = \".id\"\ndetect = \"snapshot\"\n\
         [streams.s]\nparent = {{ stream = \"accounts\", carry = {{ id = \".id\" }} }}\npath = \"/{{{{ parent.id }}}}\"\nrecords = \".items\"\n\
         key = \".id\"\ntypes = {{ from = '\"of_\" + $parent.id' }}\norder_key = \"$parent.id // .id\"\n{child}\n"
    )
}

/// Three accounts, each with a shelf of the same records.
fn bank(shelf: &Shelf) -> impl Fn(&Asked) -> Answer + Send + Sync + use<> {
    let shelf = shelf.clone();
    move |asked| match asked.path.as_str() {
        "/accounts" => ok(r#"{"items":[{"id":"a"},{"id":"b"},{"id":"c"}]}"#),
        _ => ok(list(&shelf.json(|_| true))),
    }
}

fn of_each(id: &str) -> Vec<String> {
    ["a", "b", "c"].iter().map(|account| format!("of_{account} {account}/{id}")).collect()
}

async fn sorted(world: &World) -> Vec<String> {
    let mut events: Vec<String> = world.events().await.into_iter().filter(|event| event.starts_with("of_")).collect();
    events.sort();
    events
}

#[tokio::test]
async fn r1_3_what_is_released_later_bears_the_names_of_its_own_parent_also_in_another_process() {
    // Two changes a run, so that the rest goes out with the next ones.
    for most in ["", "max_per_run = 2"] {
        let shelf = Shelf::of(&[("1", -9_000)]);
        let child = format!("detect = \"changed\"\ncursor = {{ field = \".at\" }}\n{most}");
        let world = World::new(&streams(&child), bank(&shelf)).await;
        world.poll_stream("accounts").await;
        world.polls().await;
        shelf.put("2", -5_000, "a");
        world.poll().await;
        let world = world.restart().await;
        world.poll().await;
        world.polls_what_is_due().await;
        assert_eq!(sorted(&world).await, of_each("2"), "{most}");
    }
}

#[tokio::test]
async fn r1_3_a_flag_that_depends_on_the_parent_is_asked_of_the_records_own_parent() {
    let shelf = Shelf::of(&[("1", -9_000)]);
    let when = "deletes = { when = '$parent.id == \"a\" and .text == \"gone\"' }\ndetect = \"changed\"\ncursor = { field = \".at\" }";
    let streams = streams(when).replace("types = { from = '\"of_\" + $parent.id' }\n", "");
    let world = World::new(&streams, bank(&shelf)).await;
    world.poll_stream("accounts").await;
    world.polls().await;
    shelf.put("1", -5_000, "gone");
    world.polls().await;
    assert_eq!(
        {
            let mut events = world.events().await;
            events.sort();
            events
        },
        ["s.deleted a/1", "s.updated b/1", "s.updated c/1"]
    );
}

#[tokio::test]
async fn r1_3_a_deletion_for_absence_bears_the_name_of_its_own_parent() {
    let shelf = Shelf::of(&[("1", -9_000), ("2", -9_000)]);
    let snapshot = "detect = \"snapshot\"\ndeletes = { confirm_after = 1, max_percent = 100 }";
    let world = World::new(&streams(snapshot), bank(&shelf)).await;
    world.poll_stream("accounts").await;
    world.polls().await;
    shelf.remove("1");
    world.polls().await;
    assert_eq!(sorted(&world).await, of_each("1"));
}
