package main

import (
	"os"

	"lockstep/cluster"
	"lockstep/project"
)

// onCluster says whether commands are asked of real engines, not of a state
// folder.
func (a *app) onCluster() bool { return a.env != "embedded" }

// clusterConfig says where the parts of the chosen environment are.
func (a *app) clusterConfig(p *project.Project) (*cluster.Config, error) {
	return cluster.Read(p, a.env, os.Getenv)
}
