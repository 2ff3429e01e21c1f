#!/bin/sh
# crafter 1.8.3 brings a package named `tests`, which takes the place of a project's own folder of that name.
#
# Crafter draws its worlds with opensimplex, and asks for no version of it; the wheel of opensimplex 0.4.5.1 holds its
# own tests as a top-level package. A folder `tests` without an `__init__.py` is a namespace package, and any regular
# package later on the path wins over it: `python -m tests.something` in a project fails once Crafter is installed
# beside it, though the project's folder comes first on the path. What helps: an `__init__.py` in the folder.
#
# Seen on 2026-11-30 with Python 3.11.7:
#   opensimplex 0.4.5.1 installs at the top: opensimplex tests
#   a folder tests without __init__.py: ours.py is not found
#   the same with __init__.py: ours.py is found
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'crafter==1.8.3' 'opensimplex==0.4.5.1'
"$folder/venv/bin/python" - > "$folder/seen" <<'END'
from importlib.metadata import files, version

top = {file.parts[0] for file in files("opensimplex") if len(file.parts) > 1 and file.suffix == ".py"}
print(f"opensimplex {version('opensimplex')} installs at the top:", *sorted(top))
END
mkdir -p "$folder/project/tests"
touch "$folder/project/tests/ours.py"
cd "$folder/project"
found() {
  if "$folder/venv/bin/python" -m tests.ours 2> "$folder/error"; then
    echo "ours.py is found"
  else
    grep -q "No module named tests.ours" "$folder/error" && echo "ours.py is not found"
  fi
}
echo "a folder tests without __init__.py: $(found)" >> "$folder/seen"
touch tests/__init__.py
echo "the same with __init__.py: $(found)" >> "$folder/seen"
cat "$folder/seen"
[ "$(cat "$folder/seen")" = "opensimplex 0.4.5.1 installs at the top: opensimplex tests
a folder tests without __init__.py: ours.py is not found
the same with __init__.py: ours.py is found" ]
