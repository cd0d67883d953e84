"""The ``nvidia-smi`` of a rented machine: a POSIX shell script with the GPU's facts written into it."""

import re
import shlex
import uuid

from vastbench.emulator.spec import MachineSpec

_POWER_LIMIT_W = {
    "RTX 3090": 350,
    "RTX 4090": 450,
    "RTX 5090": 575,
    "A100": 400,
    "H100": 700,
    "H200": 700,
    "L40S": 350,
    "RTX A6000": 300,
    "T4": 70,
}
_OTHER_POWER_LIMIT_W = 250


def driver_name(gpu_name: str, gpu_ram_mb: int) -> str:
    """The name that the NVIDIA driver reports for what the marketplace calls ``gpu_name``.

    ``gpu_ram_mb`` (MiB) tells variants of one chip apart: "A100 SXM4" is "NVIDIA A100-SXM4-40GB" or "…-80GB".
    """
    words = gpu_name.replace("_", " ").strip()
    size = min((8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 141, 180, 192), key=lambda gb: abs(gb - gpu_ram_mb / 1024))
    exact = {
        "A100 SXM4": f"NVIDIA A100-SXM4-{size}GB",
        "A100 PCIE": "NVIDIA A100 80GB PCIe" if size == 80 else f"NVIDIA A100-PCIE-{size}GB",
        "H100 SXM": "NVIDIA H100 80GB HBM3",
        "H100 PCIE": "NVIDIA H100 PCIe",
        "Tesla V100": f"Tesla V100-SXM2-{size}GB",
        "A100 SXM": f"NVIDIA A100-SXM{'' if size == 64 else '4'}-{size}GB",
        "A10g": "NVIDIA A10G",
        "A800 PCIE": "NVIDIA A800 80GB PCIe",
        "GH200 SXM": "NVIDIA GH200 480GB",
        "Tesla M40": "Tesla M40 24GB",
        "Tesla P100": "Tesla P100-PCIE-16GB",
        "GeForce 970": "NVIDIA GeForce GTX 970",
        "GTX 1060": "NVIDIA GeForce GTX 1060 6GB",
        "GTX TITAN X": "NVIDIA GeForce GTX TITAN X",
        "Titan X": "NVIDIA TITAN X (Pascal)",
        "TITAN V CEO": "NVIDIA TITAN V CEO Edition",
        "RTX 4090D": "NVIDIA GeForce RTX 4090 D",
        "RTX PRO 4000 Mobile": "NVIDIA RTX PRO 4000 Blackwell Generation Laptop GPU",
        "RTX PRO 6000": "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
        "RTX PRO 6000 WS": "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
        "RTX PRO 6000 Max-Q": "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        "RTX PRO 6000 S": "NVIDIA RTX PRO 6000 Blackwell Server Edition",
    }
    if words in exact:
        return exact[words]
    if ada := re.fullmatch(r"RTX (\d{4}) ?Ada", words):
        return f"NVIDIA RTX {ada[1]} Ada Generation"
    if quadro := re.fullmatch(r"Q RTX (\d000)", words):
        return f"Quadro RTX {quadro[1]}"
    if super_ := re.fullmatch(r"((?:RTX|GTX) \d{4}) ?S( Ti)?", words):
        return f"NVIDIA GeForce {super_[1]}{super_[2] or ''} SUPER"
    if re.match(r"(RTX|GTX) \d{3,4}", words):
        return f"NVIDIA GeForce {words.replace(' laptop', ' Laptop GPU')}"
    if words.startswith(("Tesla ", "Quadro ")):
        return words
    if words.startswith("Titan "):
        return f"NVIDIA TITAN {words[6:]}"
    if words.startswith("RTX PRO "):
        return f"NVIDIA {words} Blackwell"
    return f"NVIDIA {words}"


def nvidia_smi(spec: MachineSpec) -> str:
    """The script: the plain table, ``-L``, ``--version`` and ``--query-gpu=… --format=csv[,noheader][,nounits]``.

    Every GPU is idle; of the first one's memory so many MiB more are used as the file ``nvidia-smi.used`` beside it says.
    Fields it does not know are answered as the real tool answers fields that do not exist.
    """
    power = next((w for name, w in _POWER_LIMIT_W.items() if name in spec.gpu_name), _OTHER_POWER_LIMIT_W)
    uuids = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"vastbench:{spec.id}:{index}")) for index in range(spec.gpu_count)]
    facts = {
        "NAME": driver_name(spec.gpu_name, spec.gpu_ram_mb),
        "COUNT": str(spec.gpu_count),
        "DRIVER": spec.driver_version,
        "CUDA": spec.cuda_version,
        "MEMORY": str(spec.gpu_ram_mb),
        "POWER": str(power),
        "UUIDS": " ".join(f"GPU-{one}" for one in uuids),
    }
    return "#!/bin/sh\n" + "".join(f"{key}={shlex.quote(value)}\n" for key, value in facts.items()) + _SCRIPT


_SCRIPT = r"""
uuid() { set -- $(($1 + 1)) $UUIDS; eval "echo \${$(($1 + 1))}"; }
used() { [ "$1" = 0 ] && [ -s "$0.used" ] && echo $((1 + $(cat "$0.used"))) || echo 1; }
bus() { printf '%08X:%02X:00.0' 0 $(($1 + 1)); }

field() { # NAME INDEX -> VALUE, UNIT
  UNIT=
  case $1 in
    name | gpu_name) VALUE=$NAME ;;
    count) VALUE=$COUNT ;;
    index) VALUE=$2 ;;
    uuid | gpu_uuid) VALUE=$(uuid "$2") ;;
    driver_version) VALUE=$DRIVER ;;
    memory.total) VALUE=$MEMORY UNIT=MiB ;;
    memory.used) VALUE=$(used "$2") UNIT=MiB ;;
    memory.free) VALUE=$((MEMORY - $(used "$2"))) UNIT=MiB ;;
    memory.reserved) VALUE=0 UNIT=MiB ;;
    utilization.gpu | utilization.memory) VALUE=0 UNIT=% ;;
    temperature.gpu) VALUE=31 ;;
    fan.speed) VALUE=30 UNIT=% ;;
    power.draw) VALUE=22.45 UNIT=W ;;
    power.limit | enforced.power.limit) VALUE=$POWER.00 UNIT=W ;;
    clocks.sm | clocks.current.sm | clocks.gr | clocks.current.graphics) VALUE=210 UNIT=MHz ;;
    clocks.mem | clocks.current.memory) VALUE=405 UNIT=MHz ;;
    pstate) VALUE=P8 ;;
    compute_mode) VALUE=Default ;;
    persistence_mode) VALUE=Enabled ;;
    display_active | display_mode) VALUE=Disabled ;;
    pci.bus_id | gpu_bus_id) VALUE=$(bus "$2") ;;
    timestamp) VALUE=$(date '+%Y/%m/%d %H:%M:%S.000') ;;
    *) return 1 ;;
  esac
}

query() {
  header=
  for name in $(echo "$FIELDS" | tr ',' ' '); do
    field "$name" 0 || { printf 'Field "%s" is not a valid field to query.\n\n' "$name"; exit 2; }
    [ -z "$UNIT" ] || [ -z "$UNITS" ] || name="$name [$UNIT]"
    header="$header, $name"
  done
  [ -z "$HEADER" ] || echo "${header#, }"
  for index in $SELECTED; do
    row=
    for name in $(echo "$FIELDS" | tr ',' ' '); do
      field "$name" "$index"
      [ -z "$UNIT" ] || [ -z "$UNITS" ] || VALUE="$VALUE $UNIT"
      row="$row, $VALUE"
    done
    echo "${row#, }"
  done
}

table() {
  date '+%a %b %e %H:%M:%S %Y       '
  echo '+-----------------------------------------------------------------------------------------+'
  printf '| NVIDIA-SMI %-22s Driver Version: %-14s CUDA Version: %-8s |\n' "$DRIVER" "$DRIVER" "$CUDA"
  echo '|-----------------------------------------+------------------------+----------------------+'
  echo '| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |'
  echo '| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |'
  echo '|                                         |                        |               MIG M. |'
  echo '|=========================================+========================+======================|'
  for index in $SELECTED; do
    printf '| %3d  %-30.30s  On |   %-15s Off |                  Off |\n' "$index" "$NAME" "$(bus "$index")"
    printf '| 30%%   31C    P8           %4dW / %4dW |' 22 "$POWER"
    printf ' %7dMiB / %6dMiB |      0%%      Default |\n' "$(used "$index")" "$MEMORY"
    echo '|                                         |                        |                  N/A |'
    echo '+-----------------------------------------+------------------------+----------------------+'
  done
  echo
  echo '+-----------------------------------------------------------------------------------------+'
  echo '| Processes:                                                                              |'
  echo '|  GPU   GI   CI        PID   Type   Process name                              GPU Memory |'
  echo '|        ID   ID                                                               Usage      |'
  echo '|=========================================================================================|'
  echo '|  No running processes found                                                             |'
  echo '+-----------------------------------------------------------------------------------------+'
}

invalid() {
  echo "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help."
  echo
  exit 1
}

SELECTED= index=0
while [ $index -lt "$COUNT" ]; do SELECTED="$SELECTED $index" index=$((index + 1)); done
FIELDS= FORMAT= LIST=
while [ $# -gt 0 ]; do
  case $1 in
    --query-gpu=*) FIELDS=${1#*=} ;;
    --format=*) FORMAT=${1#*=} ;;
    -i | --id) [ $# -gt 1 ] || invalid; shift; ID=$1 ;;
    -i=* | --id=*) ID=${1#*=} ;;
    -L | --list-gpus) LIST=1 ;;
    --version)
      printf 'NVIDIA-SMI version  : %s\nDRIVER version      : %s\nCUDA Version        : %s\n' "$DRIVER" "$DRIVER" "$CUDA"
      exit 0 ;;
    *) invalid ;;
  esac
  shift
done
if [ -n "${ID+set}" ]; then
  case " $SELECTED " in
    *" $ID "*) SELECTED=$ID ;;
    *) echo 'No devices were found'; exit 6 ;;
  esac
fi
if [ -n "$LIST" ]; then
  for index in $SELECTED; do echo "GPU $index: $NAME (UUID: $(uuid "$index"))"; done
elif [ -n "$FIELDS" ]; then
  HEADER=1 UNITS=1
  case ",$FORMAT," in *,csv,*) ;; *) invalid ;; esac
  case ",$FORMAT," in *,noheader,*) HEADER= ;; esac
  case ",$FORMAT," in *,nounits,*) UNITS= ;; esac
  query
else
  [ -z "$FORMAT" ] || invalid
  table
fi
"""
