"""The planners, by name, in the order they run. A new one is a file and a line here; ties go to the earlier."""

from compiler.memory.by_breadth import by_breadth
from compiler.memory.by_lifetime import by_area, by_lifetime
from compiler.memory.by_size import by_size
from compiler.memory.exact import exact
from compiler.memory.hill_climb import hill_climb
from compiler.memory.request import Planner

PLANNERS: dict[str, Planner] = {
    "by-size": by_size,
    "by-breadth": by_breadth,
    "by-lifetime": by_lifetime,
    "by-area": by_area,
    "exact": exact,
    "hill-climb": hill_climb,
}
