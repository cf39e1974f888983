//! What the parameters of every loss have to hold.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::loss::known::KnownLoss;

/// A config survives JSON and TOML, and refuses a key that it does not know.
#[track_caller]
pub fn round_trip<C>(config: &C)
where
    C: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let json = serde_json::to_value(config).unwrap();
    assert_eq!(serde_json::from_value::<C>(json.clone()).unwrap(), *config);
    let toml = toml::to_string(config).unwrap();
    assert_eq!(toml::from_str::<C>(&toml).unwrap(), *config);

    let mut unknown = json;
    unknown["unknown"] = 1.into();
    let error = serde_json::from_value::<C>(unknown)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("unknown field `unknown`"), "{error}");
}

/// [`round_trip`], and a config file finds the config under `name`.
#[track_caller]
pub fn assert_config<C>(name: &str, config: &C)
where
    C: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Clone + Into<KnownLoss>,
{
    round_trip(config);
    let by_name = serde_json::json!({ name: config });
    let by_name: KnownLoss = serde_json::from_value(by_name).expect("a loss of this name");
    assert_eq!(by_name, config.clone().into());
}

/// The config that a file holds with these fields.
pub fn from_json<C: DeserializeOwned>(text: &str) -> C {
    serde_json::from_str(text).unwrap()
}
