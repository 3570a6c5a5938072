//go:build planted

package core

var plantedBug bug

// Plant puts one bug into the core of this process, 0 takes it out; for the simulator's test of itself. It is not safe for concurrent use.
func Plant(b int) { plantedBug = bug(b) }

// PlantedBugs is how many there are: 1 to PlantedBugs.
const PlantedBugs = int(bugEnd) - 1

func planted(b bug) bool { return plantedBug == b }
