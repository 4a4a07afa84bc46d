//! Whether a JSON value is as a schema of our OpenAPI document says. It knows the words that the document uses, and no
//! others; a property that the schema does not name is a fault, since the document must tell all that is answered.

use serde_json::Value;

/// What is wrong with `value` at `place`, by `schema`; references lead into `document`.
pub(crate) fn faults(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.strip_prefix('#').unwrap());
        let target = target.unwrap_or_else(|| panic!("{reference} leads nowhere"));
        return faults(document, target, value, place);
    }
    for word in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[word].as_array() {
            let found = choices
                .iter()
                .map(|one| faults(document, one, value, place));
            let found: Vec<_> = found.collect();
            let is_one = found.iter().any(Vec::is_empty);
            return if is_one { Vec::new() } else { found.concat() };
        }
    }
    let mut wrong = Vec::new();
    let types = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        other => panic!("{place}: a schema with the type {other}"),
    };
    let own_type = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(&own_type) {
        return vec![format!("{place}: {own_type} in place of {types:?}")];
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        wrong.push(format!("{place}: {value} is none of {words:?}"));
    }
    if let Some(text) = value.as_str() {
        let is_well_formed = match schema["format"].as_str() {
            Some("date-time") => text.parse::<jiff::Timestamp>().is_ok(),
            Some("uuid") => text.parse::<uuid::Uuid>().is_ok(),
            None => true,
            Some(other) => panic!("{place}: a schema with the format {other}"),
        };
        if !is_well_formed {
            wrong.push(format!("{place}: {text} has another form"));
        }
    }
    if let Some(elements) = value.as_array() {
        for (index, element) in elements.iter().enumerate() {
            let place = format!("{place}[{index}]");
            wrong.extend(faults(document, &schema["items"], element, &place));
        }
    }
    if let Some(members) = value.as_object() {
        wrong.extend(faults_of_object(document, schema, members, place));
    }
    wrong
}

fn faults_of_object(
    document: &Value,
    schema: &Value,
    members: &serde_json::Map<String, Value>,
    place: &str,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let required = schema["required"].as_array().into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        if !members.contains_key(name) {
            wrong.push(format!("{place}: {name} is missing"));
        }
    }
    for (name, member) in members {
        let declared = schema["properties"]
            .get(name)
            .or_else(|| schema.get("additionalProperties"));
        let place = format!("{place}.{name}");
        match declared {
            Some(schema) => wrong.extend(faults(document, schema, member, &place)),
            None => wrong.push(format!("{place} is not declared")),
        }
    }
    wrong
}
