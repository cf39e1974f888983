//! What a config file says of a loss is what is read, what it leaves out has its default, and what
//! makes no sense is refused.

use toml::{Table, Value};

use super::fields::{ABOVE_0, Fields, fields};
use crate::loss::known::KnownLoss;
use crate::objective::Objective;

fn table(text: &str) -> Table {
    let fields = toml::from_str::<Table>(&format!("fields = {{ {text} }}"));
    let mut fields = fields.unwrap_or_else(|error| panic!("{text}: {error}"));
    match fields.remove("fields") {
        Some(Value::Table(fields)) => fields,
        other => panic!("{text}: {other:?}"),
    }
}

/// The name of a loss in a file, and its fields there.
pub fn written(loss: &KnownLoss) -> (String, Table) {
    let file = Table::try_from(loss).unwrap();
    match file.into_iter().next() {
        Some((name, Value::Table(fields))) => (name, fields),
        other => panic!("{loss:?}: {other:?}"),
    }
}

fn read(name: &str, fields: Table) -> Result<KnownLoss, toml::de::Error> {
    Table::from_iter([(name.to_string(), Value::Table(fields))]).try_into()
}

/// The loss with other values of some fields, as a file writes them.
pub fn changed(loss: &KnownLoss, fields: &str) -> Result<KnownLoss, toml::de::Error> {
    let (name, mut all) = written(loss);
    all.extend(table(fields));
    read(&name, all)
}

fn validate(loss: KnownLoss) -> Result<(), String> {
    let checked = Objective::new().with(loss, 1).validate();
    checked.map_err(|error| error.to_string())
}

/// What a file says of a loss is what is read, and what it leaves out has its default.
pub fn keeps_to_its_file(loss: &KnownLoss) {
    let json = serde_json::to_string(loss).unwrap();
    assert_eq!(serde_json::from_str::<KnownLoss>(&json).unwrap(), *loss);
    let (name, all) = written(loss);
    assert_eq!(read(&name, all.clone()).unwrap(), *loss);

    let error = changed(loss, "unknown = 1").unwrap_err().to_string();
    assert!(
        error.contains("unknown field `unknown`"),
        "{loss:?}: {error}"
    );

    let Fields {
        defaults,
        others,
        ranges,
        refused,
    } = fields(loss);
    let mut required = all.clone();
    let mut expected = table(defaults);
    required.retain(|field, _| !expected.contains_key(field));
    expected.extend(required.clone());
    let shortest = read(&name, required.clone()).unwrap();
    assert_eq!(written(&shortest).1, expected, "{name}");
    // Where it is not given another, the loss from code has the same.
    let given = ["temperature", "smoothing", "k"];
    let same = |(field, value): (&String, &Value)| {
        given.contains(&field.as_str()) || *value == expected[field]
    };
    assert!(all.iter().all(same), "{loss:?}");
    for field in required.keys() {
        let mut without = required.clone();
        without.remove(field);
        let error = read(&name, without).expect_err(field).to_string();
        let expected = format!("missing field `{field}`");
        assert!(error.contains(&expected), "{loss:?}: {error}");
    }

    for fields in others {
        let other = changed(&shortest, fields).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut expected = expected.clone();
        expected.extend(table(fields));
        assert_eq!(written(&other).1, expected);
        assert_eq!(validate(other), Ok(()));
    }
    let refuses = |fields: &str, message: &str| {
        let refused = changed(loss, fields).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(validate(refused), Err(format!("{name}.{message}")));
    };
    for (fields, message) in refused {
        refuses(fields, message);
    }
    let mut ranges = ranges.to_vec();
    if expected.contains_key("temperature") {
        ranges.push(("temperature", ABOVE_0));
        let least = format!("temperature = {:e}", f64::MIN_POSITIVE);
        assert_eq!(validate(changed(loss, &least).unwrap()), Ok(()));
    }
    for (field, (values, expected)) in ranges {
        for value in values {
            let shown = value.replace("nan", "NaN");
            let message = format!("{field} is {shown}, expected {expected}");
            refuses(&format!("{field} = {value}"), &message);
        }
    }
    for side in ["student", "teacher"] {
        let nameless = match required.get(side) {
            Some(Value::String(_)) => format!("{side} = ''"),
            Some(Value::Array(_)) => format!("{side} = ['', 'm2']"),
            _ => continue,
        };
        let message = format!(r#"{side} is "", expected the name of a feature"#);
        refuses(&nameless, &message);
    }
}
