#!/usr/bin/env bash
# Puts @tensorflow/tfjs-node with its native library into .cache/tfjs-native, for the tests and bench/engines.ts, without
# the package's own download: libtensorflow is the one in the wheel of tensorflow-cpu on PyPI, and the binding between the
# two is compiled here from the sources in the npm package. Linux on x86-64. Does nothing where all is there.
#
# Needs npm and PyPI, g++, and python3 with venv. 400 MB; half a minute, most of it downloads.
set -euo pipefail

tfjs=4.22.0          # @tensorflow/tfjs-node; the newest
tensorflow=2.15.1    # tensorflow-cpu; the C interface that tfjs-node is written for is stable
sha256=54660c074d7241a503e81edfd9f5ef5af88f64051b72e2945f26318c790f2d26

cache=$(cd "$(dirname "$0")/../.." && pwd)/.cache/tfjs-native
done="$cache/done-$tfjs-$tensorflow"
if [ -f "$done" ]; then exit 0; fi

for program in g++ python3 npm; do
  if ! command -v "$program" >/dev/null; then echo "$program is missing; on Debian: apt-get install g++ python3 python3-venv" >&2; exit 1; fi
done
if [ "$(uname -sm)" != 'Linux x86_64' ]; then echo "the wheel is for Linux on x86-64, this is $(uname -sm)" >&2; exit 1; fi

rm -rf "$cache"
mkdir -p "$cache"
cd "$cache"

# Without install scripts: that of tfjs-node would download.
echo '{ "private": true }' >package.json
npm install --ignore-scripts --no-audit --no-fund --silent "@tensorflow/tfjs-node@$tfjs" node-api-headers@1

python3 -m venv venv
venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --no-cache-dir \
  --implementation cp --python-version 3.11 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
  --dest wheel "tensorflow-cpu==$tensorflow"
echo "$sha256  $(ls wheel/*.whl)" | sha256sum --check --quiet

# Where tfjs-node looks for them: deps/lib and deps/include.
package=node_modules/@tensorflow/tfjs-node
mkdir -p "$package/deps/lib"
venv/bin/python - wheel/*.whl "$package/deps" <<'PYTHON'
import pathlib, shutil, sys, zipfile

wheel, deps = sys.argv[1], pathlib.Path(sys.argv[2])
headers = ('tensorflow/c/', 'tensorflow/core/platform/', 'tsl/', 'xla/tsl/')
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        path = name.removeprefix('tensorflow/')
        if path in ('libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'):
            target = deps / 'lib' / path
        elif name.endswith('.h') and path.startswith(tuple('include/' + folder for folder in headers)):
            target = deps / path
        else:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(name) as source, open(target, 'wb') as file:
            shutil.copyfileobj(source, file, 1 << 20)
PYTHON
ln -s libtensorflow_cc.so.2 "$package/deps/lib/libtensorflow.so"
ln -s libtensorflow_framework.so.2 "$package/deps/lib/libtensorflow_framework.so"
rm -rf wheel venv

headers=$cache/node_modules/node-api-headers/include
cd "$package"
mkdir -p lib/napi-v8
g++ -O2 -fPIC -shared -std=c++17 -DNAPI_VERSION=8 -DBUILDING_NODE_EXTENSION -I"$headers" -I.. -Ideps/include \
  binding/tfjs_backend.cc binding/tfjs_binding.cc -o lib/napi-v8/tfjs_binding.node \
  -Ldeps/lib -ltensorflow -ltensorflow_framework -Wl,-rpath,'$ORIGIN/../../deps/lib'

touch "$done"
