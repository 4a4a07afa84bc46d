use super::*;

fn address(text: &str) -> DirectAddress {
    text.parse().unwrap()
}

// rule: MD-58
#[test]
fn the_five_escapes_are_read_and_written_and_no_other() {
    assert_eq!(unescape(r"a\F\b\S\c\T\d\R\e\E\f"), r"a|b^c&d~e\f");
    assert_eq!(unescape(r"a\H\b\ c\"), r"a\H\b\ c\");
    assert_eq!(escape(r"a|b^c&d~e\f"), r"a\F\b\S\c\T\d\R\e\E\f");
    assert!(is_escaped_well(r"Quill \T\ Sons"));
    assert!(!is_escaped_well(r"Quill\.br\Sons"));
    assert!(!is_escaped_well(r"domain\user"));
}

// rule: MD-41, MD-42, MD-92
#[test]
fn a_cx_has_an_id_and_an_iso_authority() {
    let good = Cx::read("PT-1^^^&2.999.1&ISO");
    assert_eq!(good.check(), Ok(()));
    assert_eq!(good.to_string(), "PT-1^^^&2.999.1&ISO");
    assert!(good.names_same(&Cx::read("PT-1^^^&2.999.1&ISO^^")));
    assert!(!good.names_same(&Cx::read("PT-1^^^&2.999.2&ISO")));
    assert!(Cx::read(r"a\T\b^^^&2.999.1&ISO").id == "a&b");
    for bad in [
        "",
        "PT-1",
        "^^^&2.999.1&ISO",
        "PT-1^^^&2.999.1",
        "PT-1^^^name&2.999.1&ISO",
        "PT-1^^^&not.an.oid&ISO",
        "PT-1^^^&2.999.1&UUID",
        "PT-1^^^&2.999.1&ISO&more",
        "PT-1^check^^&2.999.1&ISO",
        "PT-1^^^&2.999.1&ISO^MR",
    ] {
        assert!(Cx::read(bad).check().is_err(), "{bad}");
    }
    assert!(!format!("{good:?}").contains("PT-1"));
}

// rule: MD-43, XDR-68
#[test]
fn an_xcn_needs_an_id_or_a_family_name() {
    let person = Xcn::read("881^Okafor^Ngozi^^Jr^Dr^MD^^&2.999.20.1&ISO");
    assert_eq!(person.check(), Ok(()));
    assert_eq!(person.display_name().as_deref(), Some("Ngozi Okafor"));
    assert_eq!(
        person.to_string(),
        "881^Okafor^Ngozi^^Jr^Dr^MD^^&2.999.20.1&ISO"
    );
    for good in ["881", "^Okafor", "^Okafor^Ngozi^^^Dr"] {
        assert_eq!(Xcn::read(good).check(), Ok(()), "{good}");
    }
    for bad in [
        "",
        "^^Ngozi",
        "^Okafor^^^^^^^&2.999.20&ISO",
        "1^^^^^^^^&x&ISO",
    ] {
        assert!(Xcn::read(bad).check().is_err(), "{bad}");
    }
}

// rule: MD-44
#[test]
fn an_xon_needs_a_name_and_an_authority_for_a_local_id() {
    for good in [
        "Elm Street Clinic",
        "Elm Street Clinic^^^^^^^^^2.999.20",
        "Elm Street Clinic^^^^^&2.999.20&ISO^^^^77",
    ] {
        let organisation = Xon::read(good);
        assert_eq!(organisation.check(), Ok(()), "{good}");
        assert_eq!(organisation.to_string(), good);
    }
    for bad in [
        "^^^^^^^^^2.999.20",
        "Elm^^^^^^^^^77",
        "Elm^L",
        "Elm^^^^^^^^^2.999^more",
        "Elm^^^^^&2.999.20",
    ] {
        assert!(Xon::read(bad).check().is_err(), "{bad}");
    }
}

// rule: MD-45, XDR-63, XDR-67
#[test]
fn an_xtn_carries_an_email_address_or_a_telephone_number() {
    for good in [
        "^^Internet^rui@harbor.example.org",
        "^NET^Internet^rui@harbor.example.org",
        "^^PH^^1^503^5550100",
        "^^PH^^^^^^^^^+1 503 555 0100",
    ] {
        assert_eq!(Xtn::read(good).check(), Ok(()), "{good}");
    }
    for bad in [
        "",
        "rui@harbor.example.org",
        "^^Internet^rui",
        "^^Internet^",
        "^PRN^Internet^rui@harbor.example.org",
        "^^Internet^rui@harbor.example.org^1",
        "^^Internet^Rui Silva <rui@harbor.example.org>",
    ] {
        assert!(Xtn::read(bad).check().is_err(), "{bad}");
    }
    let named = Xtn::read("^^Internet^Rui Silva <Rui@harbor.example.org>");
    assert!(named.is_loose_email());
    assert_eq!(named.address(), Some(Ok(address("rui@harbor.example.org"))));
    assert_eq!(Xtn::read("^^PH^^1^503^5550100").address(), None);
    assert!(!format!("{named:?}").contains("rui"));
}

// rule: XDR-60, XDR-61, XDR-62, XDR-64, MD-46
#[test]
fn an_intended_recipient_has_three_parts_and_at_least_one() {
    let direct = IntendedRecipient::for_address(&address("rui@harbor.example.org"));
    assert_eq!(direct.to_string(), "||^^Internet^rui@harbor.example.org");
    assert_eq!(direct.check(), Ok(()));
    assert_eq!(IntendedRecipient::read(&direct.to_string()), direct);

    let full = "Harbor Hospital^^^^^^^^^2.999.40|^Silva^Rui^^^Dr|^^Internet^rui@harbor.example.org";
    let recipient = IntendedRecipient::read(full);
    assert_eq!(recipient.check(), Ok(()));
    assert_eq!(recipient.to_string(), full);
    assert_eq!(
        recipient.address(),
        Some(Ok(address("rui@harbor.example.org")))
    );

    let broken =
        IntendedRecipient::read("\n  Harbor\n  Hospital||^^Internet^rui@harbor.example.org\n");
    assert_eq!(
        broken.organisation.as_ref().map(|o| o.name.as_str()),
        Some("Harbor Hospital")
    );
    assert_eq!(
        broken.address(),
        Some(Ok(address("rui@harbor.example.org")))
    );

    for (without_address, is_good) in [
        ("Harbor Hospital", true),
        ("|^Silva", true),
        ("Harbor||", true),
        ("", false),
        ("||", false),
        ("a|^b|^^PH^^1^503^5550100|more", false),
    ] {
        let recipient = IntendedRecipient::read(without_address);
        assert_eq!(recipient.address(), None, "{without_address}");
        assert_eq!(recipient.check().is_ok(), is_good, "{without_address}");
    }
    assert!(
        IntendedRecipient::read("||^^Internet^not an address")
            .address()
            .unwrap()
            .is_err()
    );
}

// rule: MD-48
#[test]
fn a_cxi_has_an_id_and_a_type() {
    assert_eq!(
        check_cxi("R-5^^^&2.999.60&ISO^urn:ihe:iti:xds:2013:order"),
        Ok(())
    );
    assert_eq!(
        check_cxi("2.999.5^^^^urn:ihe:iti:xds:2013:uniqueId"),
        Ok(())
    );
    for bad in [
        "R-5",
        "^^^&2.999.60&ISO^t",
        "R-5^^^2.999.60^t",
        "R-5^x^^&2.999.60&ISO^t",
    ] {
        assert!(check_cxi(bad).is_err(), "{bad}");
    }
}
