//! What each format becomes, and what is refused.

use super::*;

fn read(format: &AnswerFormat, body: &[u8]) -> Result<String, String> {
    let decoded = format.read(&Bytes::copy_from_slice(body), None)?;
    let json = String::from_utf8(decoded.json.to_vec()).expect("text");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(value.to_string(), json, "the JSON is written as it would be by anybody");
    Ok(json)
}

fn of_kind(kind: FormatKind) -> AnswerFormat {
    AnswerFormat { kind, ..AnswerFormat::default() }
}

fn list(name: &str) -> ListElement {
    match name.split_once('/') {
        Some((parent, name)) => ListElement { parent: Some(parent.into()), name: name.into() },
        None => ListElement { parent: None, name: name.into() },
    }
}

#[test]
fn xml_becomes_json_by_one_mapping() {
    for (xml, json) in [
        ("<a>x</a>", r#"{"a":"x"}"#),
        ("<a/>", r#"{"a":""}"#),
        ("<a>\n  </a>", r#"{"a":""}"#),
        ("<a> 007.50 </a>", r#"{"a":" 007.50 "}"#),
        ("<a><b>1</b><c/></a>", r#"{"a":{"b":"1","c":""}}"#),
        ("<a><b>1</b><c>2</c><b>3</b></a>", r#"{"a":{"b":["1","3"],"c":"2"}}"#),
        (r#"<Amt Ccy="EUR">10.00</Amt>"#, r##"{"Amt":{"@Ccy":"EUR","#text":"10.00"}}"##),
        (r#"<a b="1"/>"#, r#"{"a":{"@b":"1"}}"#),
        ("<a>x<b>1</b>y</a>", r##"{"a":{"#text":"xy","b":"1"}}"##),
        (r#"<n:a xmlns:n="urn:x" xmlns="urn:y" n:id="1"><n:b>1</n:b></n:a>"#, r#"{"a":{"@id":"1","b":"1"}}"#),
        (r#"<a xmlns:n="urn:x" id="1" n:id="2"/>"#, r#"{"a":{"@id":"1","@n:id":"2"}}"#),
        ("<a>1 &lt; 2 &amp;&#x20AC;&#8364;</a>", r#"{"a":"1 < 2 &€€"}"#),
        ("<a><![CDATA[<b>&amp;</b>]]></a>", r#"{"a":"<b>&amp;</b>"}"#),
        (r#"<a b="&quot;&#65;"/>"#, r#"{"a":{"@b":"\"A"}}"#),
        ("<?xml version=\"1.0\"?><!-- c --><?pi x?><a>1<!-- c -->2</a>", r#"{"a":"12"}"#),
        ("<a>1\r\n2</a>", r#"{"a":"1\n2"}"#),
    ] {
        assert_eq!(read(&of_kind(FormatKind::Xml), xml.as_bytes()).as_deref(), Ok(json), "{xml}");
    }
}

#[test]
fn an_element_that_is_a_list_is_one_with_one_item_and_with_none() {
    let mut format = AnswerFormat { lists: vec![list("Payment"), list("Stmt/Ntry")], ..of_kind(FormatKind::Xml) };
    format.expect_lists(".searchResponse.Payments.Payment");
    for (xml, json) in [
        ("<r><Payments><Payment>1</Payment></Payments></r>", r#"{"r":{"Payments":{"Payment":["1"]}}}"#),
        ("<r><Payments><Payment/><Payment/></Payments></r>", r#"{"r":{"Payments":{"Payment":["",""]}}}"#),
        ("<r><Payments/></r>", r#"{"r":{"Payments":{"Payment":[]}}}"#),
        ("<r><Payments>\n</Payments></r>", r#"{"r":{"Payments":{"Payment":[]}}}"#),
        ("<r><Payments><Total>0</Total></Payments></r>", r#"{"r":{"Payments":{"Total":"0","Payment":[]}}}"#),
        ("<r><Other/></r>", r#"{"r":{"Other":""}}"#),
        ("<r><Stmt><Id>1</Id></Stmt></r>", r#"{"r":{"Stmt":{"Id":"1","Ntry":[]}}}"#),
        ("<r><Stmt><Ntry>1</Ntry></Stmt><Ntry>2</Ntry></r>", r#"{"r":{"Stmt":{"Ntry":["1"]},"Ntry":"2"}}"#),
    ] {
        assert_eq!(read(&format, xml.as_bytes()).as_deref(), Ok(json), "{xml}");
    }
}

#[test]
fn the_places_of_lists_are_seen_in_any_jq_of_records() {
    for (records, want) in [
        (".a.b.Item", vec!["b/Item"]),
        (".a[\"b\"].Item[]", vec!["b/Item"]),
        ("[.a.Doc[] | .b.Item[]?]", vec!["a/Doc", "b/Item"]),
        (".Item", vec![]),
        (".a.Items", vec![]),
    ] {
        let mut format = AnswerFormat { lists: vec![list("Item"), list("Doc")], ..AnswerFormat::default() };
        format.expect_lists(records);
        assert_eq!(format.lists[2..], want.into_iter().map(list).collect::<Vec<_>>(), "{records}");
    }
}

#[test]
fn what_is_no_whole_xml_is_refused_with_its_reason() {
    let deep = "<a>".repeat(65) + &"</a>".repeat(65);
    let bomb = r#"<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><a>&y;</a>"#;
    for (xml, reason) in [
        ("", "no element"),
        ("<a>", "cut off"),
        ("<a><b></a>", "line 1"),
        ("<a>\n<b x=1/></a>", "line 2"),
        ("<a/><b/>", "second root"),
        ("<a/>text", "outside"),
        ("<a>&nbsp;</a>", "`&nbsp;` is not known"),
        ("<a b='1' b='2'/>", "line 1"),
        (bomb, "DOCTYPE"),
        (r#"<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>"#, "DOCTYPE"),
        (deep.as_str(), "64"),
        ("{\"a\":1}", "outside"),
    ] {
        let error = read(&of_kind(FormatKind::Xml), xml.as_bytes()).expect_err(xml);
        assert!(error.contains(reason), "{xml}: {error}");
    }
}

#[test]
fn a_page_for_people_is_refused_under_every_format() {
    use FormatKind::*;
    for kind in [Ndjson, Xml, Soap, Csv, Feed, Text] {
        for page in [
            "<!DOCTYPE html><html><body>Log in</body></html>",
            "\n<HTML lang=\"en\">",
            "<?xml version=\"1.0\"?>\n<!-- x -->\n<!DOCTYPE html PUBLIC \"x\"><html/>",
        ] {
            let error = read(&of_kind(kind), page.as_bytes()).expect_err(page);
            assert!(error.contains("is HTML"), "{kind:?}: {error}");
        }
    }
    assert!(read(&of_kind(Text), b"<htmlish> is no page").is_ok());
}

#[test]
fn soap_gives_the_body_and_tells_faults_alike_in_both_versions() {
    let envelope = |inner: &str| {
        format!("<s:Envelope xmlns:s=\"x\"><s:Header><T>1</T></s:Header><s:Body>{inner}</s:Body></s:Envelope>")
    };
    let decode = |xml: &str| of_kind(FormatKind::Soap).read(&Bytes::copy_from_slice(xml.as_bytes()), None);
    let plain = decode(&envelope("<m:R xmlns:m=\"y\"><m:Id>1</m:Id></m:R>")).expect("an envelope");
    assert_eq!(plain.json, r#"{"Header":{"T":"1"},"R":{"Id":"1"}}"#);
    assert_eq!(plain.fault, None);
    let old = "<s:Fault><faultcode>s:Server</faultcode><faultstring>no</faultstring><detail><Code>7</Code></detail></s:Fault>";
    let old = decode(&envelope(old)).expect("an envelope");
    assert_eq!(old.fault.as_deref(), Some("the provider answered with a SOAP fault: Server: no"));
    let json = String::from_utf8(old.json.to_vec()).expect("text");
    assert!(json.contains(r#""Fault":{"code":"Server","message":"no","faultcode":"s:Server""#), "{json}");
    assert!(json.contains(r#""detail":{"Code":"7"}"#), "{json}");
    let new = "<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>m:Expired</s:Value></s:Subcode></s:Code>\
        <s:Reason><s:Text xml:lang=\"en\">late</s:Text></s:Reason></s:Fault>";
    let new = decode(&envelope(new)).expect("an envelope");
    assert_eq!(new.fault.as_deref(), Some("the provider answered with a SOAP fault: Sender: Expired: late"));
    assert!(decode("<a/>").expect_err("no envelope").contains("no SOAP envelope"));
    assert!(decode("<Envelope/>").expect_err("no body").contains("no body"));
}

#[test]
fn csv_becomes_objects_by_its_header_and_stays_text() {
    let csv = of_kind(FormatKind::Csv);
    for (text, json) in [
        ("id,amount\n1,007.50\n2,\n", r#"[{"id":"1","amount":"007.50"},{"id":"2","amount":""}]"#),
        ("id,name\r\n1,\"a \"\"b\"\", c\nd\"\r\n", r#"[{"id":"1","name":"a \"b\", c\nd"}]"#),
        ("\u{feff}id\n1", r#"[{"id":"1"}]"#),
        ("id,\n1,\n", r#"[{"id":"1","2":""}]"#),
        ("id\n", "[]"),
        ("id\n\n1\n\n", r#"[{"id":"1"}]"#),
        ("id,size\n1,5\" nail\n", r#"[{"id":"1","size":"5\" nail"}]"#),
    ] {
        assert_eq!(read(&csv, text.as_bytes()).as_deref(), Ok(json), "{text:?}");
    }
    let other = |delimiter, quote, header| AnswerFormat { csv: CsvShape { delimiter, quote, header }, ..csv.clone() };
    assert_eq!(read(&other(b';', Some(b'\''), true), b"a;b\n'1;2';3").as_deref(), Ok(r#"[{"a":"1;2","b":"3"}]"#));
    assert_eq!(read(&other(b'\t', None, false), b"\"1\t2\n3\t4\n").as_deref(), Ok(r#"[["\"1","2"],["3","4"]]"#));
    assert_eq!(read(&other(b',', None, false), b"").as_deref(), Ok("[]"));
    for (text, reason) in [("", "empty"), ("a,a\n", "two columns"), ("a,b\n1,\"2\n3,4\n", "quoted field")] {
        let error = read(&csv, text.as_bytes()).expect_err(text);
        assert!(error.contains(reason), "{text:?}: {error}");
    }
}

#[test]
fn one_bad_row_or_line_is_set_aside_and_the_others_are_read() {
    let csv = of_kind(FormatKind::Csv).read(&Bytes::from_static(b"a,b\n1,2\n3\n4,5,6\n7,8\n"), None).expect("rows");
    assert_eq!(csv.json, r#"[{"a":"1","b":"2"},{"a":"7","b":"8"}]"#);
    let raws: Vec<&[u8]> = csv.bad.iter().map(|bad| &bad.raw[..]).collect();
    assert_eq!(raws, [b"3", &b"4,5,6"[..]]);
    assert_eq!(csv.bad[0].reason, "the row has 1 fields, and 2 were expected");
    let lines = of_kind(FormatKind::Ndjson);
    let lines = lines.read(&Bytes::from_static(b"{\"n\":1.0}\r\n\n{oops}\n[2]\n"), None).expect("lines");
    assert_eq!((lines.json, lines.bad.len()), (Bytes::from_static(b"[{\"n\":1.0},[2]]"), 1));
}

#[test]
fn ndjson_may_be_empty_but_not_cut_off() {
    let lines = of_kind(FormatKind::Ndjson);
    assert_eq!(lines.read(&Bytes::new(), None).map(|read| read.json), Ok(Bytes::from_static(b"[]")));
    let cut = lines.read(&Bytes::from_static(b"{\"a\":1}\n{\"a\":"), None);
    assert_eq!(cut, Err("the answer is cut off in its last line".to_owned()));
}

#[test]
fn atom_and_rss_have_one_shape() {
    let atom = r#"<feed xmlns="http://www.w3.org/2005/Atom"><title>T</title><id>f</id><link href="http://e/"/>
        <link rel="next" href="http://e/2"/><updated>2026-01-05T12:00:00+02:00</updated>
        <entry><id>e1</id><title type="html">One</title><link rel="alternate" href="http://e/1"/><category term="x"/>
        <updated>2026-01-05T12:00:00Z</updated><author><name>Ann</name></author><summary>s</summary></entry></feed>"#;
    assert_eq!(
        read(&of_kind(FormatKind::Feed), atom.as_bytes()).as_deref(),
        Ok(
            r#"{"title":"T","id":"f","link":"http://e/","next":"http://e/2","updated":"2026-01-05T10:00:00Z","entries":[{"id":"e1","title":"One","link":"http://e/1","links":[{"rel":"alternate","href":"http://e/1"}],"updated":"2026-01-05T12:00:00Z","summary":"s","author":"Ann","categories":["x"]}]}"#
        )
    );
    let rss = r#"<rss version="2.0"><channel><title>T</title><link>http://e/</link><item><guid>e1</guid><title>One</title>
        <link>http://e/1</link><pubDate>Mon, 05 Jan 2026 12:00:00 GMT</pubDate><description>s</description>
        <category>x</category><enclosure url="http://e/a.mp3" length="9" type="audio/mpeg"/><media:x xmlns:media="m">1</media:x></item>
        <item><link>http://e/2</link><pubDate>soon</pubDate></item></channel></rss>"#;
    assert_eq!(
        read(&of_kind(FormatKind::Feed), rss.as_bytes()).as_deref(),
        Ok(
            r#"{"title":"T","link":"http://e/","entries":[{"id":"e1","title":"One","link":"http://e/1","published":"2026-01-05T12:00:00Z","summary":"s","categories":["x"],"enclosures":[{"url":"http://e/a.mp3","type":"audio/mpeg","length":"9"}],"more":{"x":"1"}},{"id":"http://e/2","link":"http://e/2","published":"soon"}]}"#
        )
    );
    let empty = r#"<feed xmlns="http://www.w3.org/2005/Atom"><id>f</id></feed>"#;
    assert_eq!(read(&of_kind(FormatKind::Feed), empty.as_bytes()).as_deref(), Ok(r#"{"id":"f","entries":[]}"#));
    assert!(read(&of_kind(FormatKind::Feed), b"<a/>").expect_err("no feed").contains("no feed"));
}

#[test]
fn charsets_are_obeyed_and_a_byte_without_meaning_is_an_error() {
    let text = |charset: Option<&str>, body: &[u8], content_type: Option<&str>, kind: FormatKind| {
        let charset = charset.map(|name| Charset::named(name).expect("a charset"));
        let format = AnswerFormat { charset, ..of_kind(kind) };
        let decoded = format.read(&Bytes::copy_from_slice(body), content_type)?;
        Ok::<_, String>(String::from_utf8(decoded.json.to_vec()).expect("text"))
    };
    use FormatKind::*;
    let said = |kind: &str| Some(kind.to_owned());
    // "Київ" in each of them.
    for (charset, bytes) in [
        ("windows-1251", &b"\xca\xe8\xbf\xe2"[..]),
        ("koi8-u", b"\xeb\xc9\xa7\xd7"),
        ("iso-8859-5", b"\xba\xd8\xf7\xd2"),
        ("utf-16le", b"\x1a\x04\x38\x04\x57\x04\x32\x04"),
    ] {
        assert_eq!(text(Some(charset), bytes, None, Text).as_deref(), Ok(r#"{"text":"Київ"}"#), "{charset}");
        let header = format!("text/plain; charset=\"{charset}\"");
        assert_eq!(text(None, bytes, Some(&header), Text).ok(), said(r#"{"text":"Київ"}"#), "{charset}");
    }
    assert_eq!(text(Some("windows-1252"), b"\x80 caf\xe9", None, Text).as_deref(), Ok(r#"{"text":"€ café"}"#));
    let declared = b"<?xml version='1.0' encoding='windows-1251'?><a>\xca</a>";
    assert_eq!(text(None, declared, None, Xml).as_deref(), Ok(r#"{"a":"К"}"#));
    let header_wins = text(None, declared, Some("text/xml; charset=koi8-u"), Xml);
    assert_eq!(header_wins.as_deref(), Ok(r#"{"a":"й"}"#));
    let with_mark = b"\xef\xbb\xbfa\n\xc3\xa9";
    assert_eq!(text(Some("windows-1251"), with_mark, None, Csv).as_deref(), Ok(r#"[{"a":"é"}]"#));
    // Servers write a charset into every header; JSON is UTF-8 all the same.
    let json = text(None, "\"é\"".as_bytes(), Some("application/json; charset=iso-8859-1"), Json);
    assert_eq!(json.as_deref(), Ok("\"é\""));
    assert_eq!(text(None, b"\"\xe9\"", Some("application/json; charset=iso-8859-1"), Json).as_deref(), Ok("\"é\""));
    for (charset, bytes) in
        [("windows-1251", &b"a\x98"[..]), ("windows-1252", b"\x81"), ("utf-8", b"\xff"), ("utf-16le", b"\x00\xd8")]
    {
        let error = text(Some(charset), bytes, None, Text).expect_err(charset);
        assert!(error.contains("charset"), "{charset}: {error}");
    }
    assert!(text(None, b"x", Some("text/plain; charset=klingon"), Text).is_err());
    assert!(Charset::named("klingon").is_none() && Charset::named(" KOI8-U ").is_some());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(bytes).expect("packed");
    packed.finish().expect("packed")
}

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write as _;
    let mut packed = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        packed.start_file(*name, zip::write::SimpleFileOptions::default()).expect("a file");
        packed.write_all(bytes).expect("packed");
    }
    packed.finish().expect("packed").into_inner()
}

#[test]
fn gzip_and_zip_are_recognised_and_bounded() {
    let json = of_kind(FormatKind::Json);
    assert_eq!(read(&json, &gzip(b"[1]")).as_deref(), Ok("[1]"));
    assert_eq!(
        read(&of_kind(FormatKind::Csv), &zip_of(&[("x/", b""), ("x/a.csv", b"a\n1")])).as_deref(),
        Ok(r#"[{"a":"1"}]"#)
    );
    let bomb = vec![b'0'; UNPACKED_MAX + 1];
    for (packed, reason) in [
        (gzip(&bomb), "more than 16 MiB"),
        (zip_of(&[("a", &bomb)]), "more than 16 MiB"),
        (zip_of(&[("a", b"1"), ("b", b"2")]), "holds 2 files"),
        (zip_of(&[]), "empty"),
        (gzip(b"[1]")[..12].to_vec(), "broken"),
        (b"PK\x03\x04nonsense".to_vec(), "cannot be read"),
    ] {
        let error = read(&json, &packed).expect_err(reason);
        assert!(error.contains(reason), "{error}");
    }
    let several = unpack(&zip_of(&[("a", b"1"), ("b", b"2")]).into()).expect("files");
    assert_eq!(several, [Bytes::from_static(b"1"), Bytes::from_static(b"2")]);
}
