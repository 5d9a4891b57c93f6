//! What a lab's description, or a cluster's, says of boards.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::plan::{LAB_LINK, MAX_BOARDS};
use super::protocol::check_name;
use crate::report::Failure;
use crate::source::{Problem, Source};

/// For the help.
pub const FORMAT: &str = r#"A lab's description; paths start from its folder, and all of it is optional:
  [lab]
  name = "home"
  cluster = "cluster.toml"   # packed for each of its boards
  image = "hearth.img"
  seed = 1
  address = "10.0.0.254/24"
  gic = 3                    # these also in [[board]], for one board:
  cpu = "cortex-a72"
  smp = 2
  memory = 1024              # MiB
  cache = "writeback"
  qemu = ["-snapshot"]       # more arguments

  [[board]]                  # instead of the cluster's boards, or the same names with more about them
  name = "alpha"
  mac = "02:68:6c:00:00:01"
  package = "alpha.cpio"     # instead of packing
  disk = "alpha.img"

  [[board]]                  # a machine without Hearth, for comparison
  name = "plain"
  kernel = "Image"
  initrd = "initramfs.gz"
  append = "console=ttyAMA0"

The lab's own link is called lab; what clients of `forward` send comes from there."#;

/// A lab's description.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    #[serde(default)]
    pub lab: LabTable,
    #[serde(default)]
    pub board: Vec<BoardTable>,
}

/// The lab itself; [`FORMAT`] tells of the keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabTable {
    pub name: Option<String>,
    pub cluster: Option<PathBuf>,
    pub image: Option<PathBuf>,
    pub seed: Option<u64>,
    pub address: Option<String>,
    pub gic: Option<u8>,
    pub cpu: Option<String>,
    pub smp: Option<u8>,
    pub memory: Option<u32>,
    pub cache: Option<String>,
    #[serde(default)]
    pub qemu: Vec<String>,
}

/// A board; [`FORMAT`] tells of the keys.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardTable {
    pub name: String,
    pub mac: Option<String>,
    pub package: Option<PathBuf>,
    pub kernel: Option<PathBuf>,
    pub initrd: Option<PathBuf>,
    pub append: Option<String>,
    pub disk: Option<PathBuf>,
    pub gic: Option<u8>,
    pub cpu: Option<String>,
    pub smp: Option<u8>,
    pub memory: Option<u32>,
    pub cache: Option<String>,
    #[serde(default)]
    pub qemu: Vec<String>,
}

/// Reads the description, whichever kind it is: of a lab, of a cluster, and the folder from which its paths start.
pub fn describe(path: Option<&Path>) -> Result<(Description, Option<PathBuf>, PathBuf), Failure> {
    let Some(path) = path else {
        return Ok((Description::default(), None, PathBuf::new()));
    };
    let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, error))?;
    let is_cluster =
        toml::from_str::<toml::Table>(&text).is_ok_and(|table| table.contains_key("cluster"));
    if is_cluster {
        return Ok((Description::default(), Some(path.to_path_buf()), base));
    }
    let description: Description = toml::from_str(&text).map_err(|error| {
        let help =
            "`hearth lab up --help` describes a lab's file, `hearth pack --help` a cluster's";
        let problem = Problem::at(error.span().unwrap_or(0..0), error.message(), help);
        let source = Source {
            path: path.to_path_buf(),
            text: text.clone(),
        };
        Failure::Mistakes(source, vec![problem])
    })?;
    let cluster = description
        .lab
        .cluster
        .as_ref()
        .map(|cluster| base.join(cluster));
    Ok((description, cluster, base))
}

/// What a lab takes from a cluster's description itself.
#[derive(Debug, Default)]
pub struct Cluster {
    /// The cluster's.
    pub name: Option<String>,
    /// Its boards and witnesses.
    pub boards: Vec<ClusterBoard>,
}

/// A board of a cluster's description.
#[derive(Clone, Debug)]
pub struct ClusterBoard {
    /// Its name.
    pub name: String,
    /// Whether it is a witness.
    pub witness: bool,
    /// Its address.
    pub address: Option<Ipv4Addr>,
}

/// Reads what a lab needs; whatever is wrong otherwise is told when packing.
pub fn read_cluster(path: &Path) -> Result<Cluster, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, error))?;
    let table: toml::Table = toml::from_str(&text).unwrap_or_default();
    let name = |table: &toml::Value| Some(table.get("name")?.as_str()?.to_string());
    let board = |table: &toml::Value, witness: bool| {
        let address = table.get("address").and_then(toml::Value::as_str);
        let address = address.and_then(|text| text.split('/').next()?.parse().ok());
        Some(ClusterBoard {
            name: name(table)?,
            witness,
            address,
        })
    };
    let listed = |kind: &str| table.get(kind).and_then(toml::Value::as_array);
    let boards = listed("board").into_iter().flatten();
    let witnesses = listed("witness").into_iter().flatten();
    let boards = boards.filter_map(|table| board(table, false));
    let witnesses = witnesses.filter_map(|table| board(table, true));
    Ok(Cluster {
        name: table.get("cluster").and_then(name),
        boards: boards.chain(witnesses).collect(),
    })
}

/// The boards: those that the lab's description lists, the cluster's, or so many.
pub fn tables(
    described: &[BoardTable],
    cluster: &[ClusterBoard],
    count: Option<usize>,
) -> Result<Vec<BoardTable>, String> {
    let mut tables: Vec<BoardTable> = described.to_vec();
    if described.is_empty() {
        let names: Vec<_> = match (cluster.is_empty(), count) {
            (false, Some(count)) if count > cluster.len() => {
                return Err(format!(
                    "the cluster has {} boards, not {count}",
                    cluster.len()
                ));
            }
            (false, count) => cluster[..count.unwrap_or(cluster.len())]
                .iter()
                .map(|board| board.name.clone())
                .collect(),
            (true, count) => (1..=count.unwrap_or(1))
                .map(|n| format!("board-{n}"))
                .collect(),
        };
        let table = |name| BoardTable {
            name,
            ..BoardTable::default()
        };
        tables = names.into_iter().map(table).collect();
    } else if count.is_some() {
        return Err("the description lists the boards: --boards is for one that does not".into());
    }
    if tables.is_empty() || tables.len() > MAX_BOARDS {
        return Err(format!(
            "a lab has 1 to {MAX_BOARDS} boards, not {}",
            tables.len()
        ));
    }
    for (place, table) in tables.iter().enumerate() {
        check_name(&table.name)?;
        if table.name == LAB_LINK {
            return Err(format!(
                "`{LAB_LINK}` is the lab's own link: give that board another name"
            ));
        }
        if tables[..place].iter().any(|other| other.name == table.name) {
            return Err(format!("there are two boards {}", table.name));
        }
    }
    Ok(tables)
}

/// An address as it is written.
///
/// # Errors
/// How to write it.
pub fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let wrong = || format!("`{text}` is no address of a network card: write 02:68:6c:00:00:01");
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts
            .next()
            .filter(|part| part.len() == 2 && !part.starts_with('+'))
            .ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    match parts.next().is_none() && mac[0] & 1 == 0 {
        true => Ok(mac),
        false => Err(wrong()),
    }
}

/// An address with the length of its network's prefix.
///
/// # Errors
/// How to write it.
pub fn network(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let wrong = || format!("`{text}` is no address with a network: write 10.0.0.254/24");
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address = address.parse().map_err(|_| wrong())?;
    let prefix = prefix
        .parse()
        .ok()
        .filter(|prefix| (1..=30).contains(prefix));
    Ok((address, prefix.ok_or_else(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_come_from_whoever_lists_them() {
        let names = |tables: Result<Vec<BoardTable>, String>| {
            tables.map(|all| all.into_iter().map(|it| it.name).collect::<Vec<_>>())
        };
        let cluster = ["alpha", "beta"].map(|name| ClusterBoard {
            name: name.into(),
            witness: false,
            address: None,
        });
        assert_eq!(
            names(tables(&[], &[], Some(2))).unwrap(),
            ["board-1", "board-2"]
        );
        assert_eq!(
            names(tables(&[], &cluster, None)).unwrap(),
            ["alpha", "beta"]
        );
        assert_eq!(names(tables(&[], &cluster, Some(1))).unwrap(), ["alpha"]);
        assert!(tables(&[], &cluster, Some(3)).is_err());
        assert!(tables(&[], &[], Some(0)).is_err());
        assert!(tables(&[], &[], Some(17)).is_err());
        let table = |name: &str| BoardTable {
            name: name.into(),
            ..BoardTable::default()
        };
        assert_eq!(
            names(tables(&[table("own")], &cluster, None)).unwrap(),
            ["own"]
        );
        assert!(tables(&[table("own")], &[], Some(1)).is_err());
        assert!(
            tables(&[table("lab")], &[], None)
                .unwrap_err()
                .contains("own link")
        );
        assert!(tables(&[table("a"), table("a")], &[], None).is_err());
        assert!(tables(&[table("A")], &[], None).is_err());
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(parse_mac("02:68:6c:00:00:01"), Ok([2, 0x68, 0x6c, 0, 0, 1]));
        for wrong in [
            "",
            "02:68:6c:00:00",
            "02:68:6c:00:00:01:02",
            "03:68:6c:00:00:01",
            "2:68:6c:00:00:01",
            "+2:68:6c:00:00:01",
        ] {
            assert!(parse_mac(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            network("10.0.0.254/24"),
            Ok((Ipv4Addr::new(10, 0, 0, 254), 24))
        );
        for wrong in ["10.0.0.254", "10.0.0/24", "10.0.0.254/31", "10.0.0.254/0"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_helps_example_is_understood() {
        let example: String = FORMAT
            .lines()
            .filter(|line| line.starts_with("  "))
            .map(|line| format!("{line}\n"))
            .collect();
        let description: Description = toml::from_str(&example).unwrap();
        assert_eq!(description.board.len(), 2);
    }
}
