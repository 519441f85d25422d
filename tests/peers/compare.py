"""Is any conformance scenario worse through docket than without it? usage: compare.py DIRECTORY

Reads the summaries that the suites printed: `direct-SUITE.txt` and `docket-SUITE.txt`.
"""

import pathlib
import re
import sys

folder = pathlib.Path(sys.argv[1])
LINE = re.compile(r"^[✓✗] (\S+): (\d+) passed, (\d+) failed", re.M)


def scenarios(path: pathlib.Path) -> dict[str, tuple[int, int]]:
    return {name: (int(passed), int(failed)) for name, passed, failed in LINE.findall(path.read_text())}


worse, seen = [], 0
for direct in sorted(folder.glob("direct-*.txt")):
    suite = direct.stem.removeprefix("direct-")
    before, after = scenarios(direct), scenarios(folder / f"docket-{suite}.txt")
    totals = [sum(passed > 0 and failed == 0 for passed, failed in side.values()) for side in (before, after)]
    print(f"{suite}: {totals[0]}/{len(before)} scenarios pass directly, {totals[1]}/{len(after)} through docket")
    seen += len(before)
    for name, (passed, failed) in before.items():
        passed_after, failed_after = after.get(name, (0, passed + failed))
        if failed_after > failed or passed_after < passed:
            worse.append(f"  {suite} {name}: {passed}/{failed} passed/failed directly, {passed_after}/{failed_after} through docket")
if worse:
    print("worse through docket:", *worse, sep="\n")
sys.exit(1 if worse or seen == 0 else 0)
