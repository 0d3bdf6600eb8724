//! `ringback provider test --junit FILE`: what tests came to, as build servers read it.

use std::fmt::Write as _;
use std::path::Path;

use super::Tested;

/// Writes the report.
pub fn write(path: &Path, tested: &[Tested]) -> std::io::Result<()> {
    std::fs::write(path, report(tested))
}

fn report(tested: &[Tested]) -> String {
    let failed = |tests: &[&Tested]| tests.iter().filter(|test| !test.passed).count();
    let all: Vec<&Tested> = tested.iter().collect();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(xml, "<testsuites name=\"ringback\" tests=\"{}\" failures=\"{}\">", all.len(), failed(&all));
    let mut files: Vec<&str> = tested.iter().map(|test| test.file.as_str()).collect();
    files.dedup();
    for file in files {
        let tests: Vec<&Tested> = tested.iter().filter(|test| test.file == file).collect();
        let name = text(file);
        let _ =
            writeln!(xml, "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\">", tests.len(), failed(&tests));
        for test in tests {
            let _ = write!(xml, "    <testcase classname=\"{name}\" name=\"{}\"", text(&test.name));
            match &test.fault {
                None => xml.push_str("/>\n"),
                Some(fault) => {
                    let first = fault.trim().lines().next().unwrap_or_default();
                    let _ = writeln!(xml, "><failure message=\"{}\">{}</failure></testcase>", text(first), text(fault));
                }
            }
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Text as XML may hold it.
fn text(text: &str) -> String {
    let allowed: String = text.chars().filter(|c| !c.is_control() || "\n\t".contains(*c)).collect();
    quick_xml::escape::escape(allowed.as_str()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_xml_with_a_case_for_each_test() {
        let test = |file: &str, name: &str, fault: Option<&str>| Tested {
            file: file.into(),
            name: name.into(),
            passed: fault.is_none(),
            fault: fault.map(str::to_owned),
        };
        let report = report(&[
            test("a.toml", "well & good", None),
            test("a.toml", "\"bad\"", Some("  expected:\n    a <b>\u{7}\n")),
            test("b.toml", "c", None),
        ]);
        let format = crate::answer::AnswerFormat { kind: crate::answer::FormatKind::Xml, ..Default::default() };
        let read =
            format.read(&report.clone().into_bytes().into(), None).unwrap_or_else(|error| panic!("{error}: {report}"));
        let json: serde_json::Value = serde_json::from_slice(&read.json).expect("JSON");
        let suites = &json["testsuites"];
        assert_eq!((suites["@tests"].as_str(), suites["@failures"].as_str()), (Some("3"), Some("1")));
        let cases = &suites["testsuite"][0]["testcase"];
        assert_eq!(cases[0]["@name"], "well & good");
        assert_eq!(cases[1]["failure"]["@message"], "expected:");
        assert_eq!(cases[1]["failure"]["#text"], "expected:\n    a <b>");
        assert_eq!(suites["testsuite"][1]["@name"], "b.toml");
    }
}
