//! What a config file says of a loss: fields, defaults, refusals.

use toml::{Table, Value};

use super::Refused;
use crate::loss::known::KnownLoss;
use crate::objective::Objective;

/// The fields that a file may leave out, with the values that they have then.
fn defaults(loss: &KnownLoss) -> &'static str {
    match loss {
        KnownLoss::SoftTarget(_) => "temperature = 4.0",
        KnownLoss::SoftCrossEntropy(_) => "temperature = 4.0, scale = 'squared'",
        KnownLoss::ReverseKl(_) | KnownLoss::SymmetricKl(_) => {
            "temperature = 1.0, scale = 'squared'"
        }
        KnownLoss::JensenShannon(_) => "temperature = 1.0, beta = 0.5, scale = 'squared'",
        KnownLoss::TotalVariation(_) => "temperature = 1.0",
        KnownLoss::LogitMse(_) => "temperature = 1.0, reduction = 'mean'",
        KnownLoss::LogitCosine(_) => "centred = false",
        KnownLoss::HardLabel(_) => "smoothing = 0.0",
        KnownLoss::Dkd(_) => "temperature = 4.0, alpha = 1.0, beta = 8.0",
        KnownLoss::Nkd(_) => "temperature = 1.0, gamma = 1.5",
        KnownLoss::Dist(_) => "temperature = 1.0, beta = 1.0, gamma = 1.0",
        KnownLoss::VirtualTeacher(_) => "temperature = 20.0, correct = 0.99",
        KnownLoss::SparseSoftTarget(_) => {
            "k = 64, temperature = 1.0, missing_probability = 'bucket'"
        }
        KnownLoss::Hint(_) => "regressor = 'auto'",
        KnownLoss::HiddenCosine(_) => "norm = 'added'",
        KnownLoss::AttentionMap(_) => "distance = 'mse', heads = 'each'",
        KnownLoss::Crd(_) => "width = 128, negatives = 16384, temperature = 0.07, momentum = 0.5",
        KnownLoss::Vid(_) => "has_regressor = true, epsilon = 1e-5, initial_variance = 5.0",
        KnownLoss::ActivationBoundary(_) => "margin = 1.0, reduction = 'mean'",
        KnownLoss::Overhaul(_) => "reduction = 'mean'",
        KnownLoss::Mgd(_) => "mask_ratio = 0.65, reduction = 'mean'",
        KnownLoss::ChannelWise(_) => "temperature = 4.0",
        KnownLoss::AttentionTransfer(_) => "power = 2, signed = false, reduction = 'norm'",
        KnownLoss::Nst(_) => "kernel = { polynomial = { degree = 2, offset = 0.0 } }",
        KnownLoss::SimilarityPreserving(_) => "norm = 'l2'",
        KnownLoss::Pkt(_) => "eps = 1e-7",
        KnownLoss::Rkd(_) => "distance_weight = 25.0, angle_weight = 50.0, squared = false",
        KnownLoss::CorrelationCongruence(_) => {
            "correlation = { gaussian = { gamma = 0.4, order = 2 } }, normalize = true, \
             reduction = 'mean_square'"
        }
        KnownLoss::Mmd(_) => "kernel = 'gaussian'",
        KnownLoss::Fsp(_) => "form = 'mean_square'",
        KnownLoss::FactorTransfer(_) => "form = 'flat_l1'",
        KnownLoss::PatientKd(_) | KnownLoss::ReviewKd(_) | KnownLoss::GramMse(_) => "",
    }
}

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
pub fn keeps_to_its_file(loss: &KnownLoss, refused: Refused) {
    let json = serde_json::to_string(loss).unwrap();
    assert_eq!(serde_json::from_str::<KnownLoss>(&json).unwrap(), *loss);
    let (name, fields) = written(loss);
    assert_eq!(read(&name, fields.clone()).unwrap(), *loss);

    let error = changed(loss, "unknown = 1").unwrap_err().to_string();
    assert!(
        error.contains("unknown field `unknown`"),
        "{loss:?}: {error}"
    );

    let defaults = table(defaults(loss));
    let mut required = fields;
    required.retain(|field, _| !defaults.contains_key(field));
    let (_, shortest) = written(&read(&name, required.clone()).unwrap());
    let mut expected = required.clone();
    expected.extend(defaults);
    assert_eq!(shortest, expected, "{name}");
    for field in required.keys() {
        let mut without = required.clone();
        without.remove(field);
        let error = read(&name, without).expect_err(field).to_string();
        let expected = format!("missing field `{field}`");
        assert!(error.contains(&expected), "{loss:?}: {error}");
    }

    if let Some((field, message)) = refused {
        let refused = changed(loss, field).unwrap_or_else(|error| panic!("{loss:?}: {error}"));
        assert_eq!(validate(refused), Err(format!("{name}.{message}")));
    }
    if shortest.contains_key("temperature") {
        for bad in ["0", "-1", "NaN", "inf"] {
            let field = format!("temperature = {}", bad.to_lowercase());
            let message = format!("{name}.temperature is {bad}, expected a number greater than 0");
            assert_eq!(validate(changed(loss, &field).unwrap()), Err(message));
        }
        let least = format!("temperature = {:e}", f64::MIN_POSITIVE);
        assert_eq!(validate(changed(loss, &least).unwrap()), Ok(()));
    }
}
