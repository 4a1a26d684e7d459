package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// tool is a program that the system must have: it installs or runs parts.
type tool struct {
	groups []string
	pkg    string // Debian package that brings it
	check  func() error
}

var tools = []tool{
	{[]string{Core, Spark}, "maven", inPath("mvn")},
	{[]string{Core, Spark}, "openjdk-17-jdk-headless", func() error { _, err := javaHome(0); return err }},
	{[]string{Core}, "postgresql", func() error { _, err := postgresProgram("initdb"); return err }},
	{[]string{Spark, Airflow, Superset}, "python3-venv", func() error {
		return output(exec.Command("python3", "-c", "import sys, venv, ensurepip; assert sys.version_info >= (3, 10), sys.version"))
	}},
	{[]string{Monitoring}, "dpkg", inPath("dpkg-deb")},
}

func inPath(name string) func() error {
	return func() error {
		_, err := exec.LookPath(name)
		return err
	}
}

// system sees that the system has what the groups need. Root gets it by apt-get,
// anybody else is told.
func (in *Installer) system(ctx context.Context, groups []string) error {
	missing, why := missingTools(groups)
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("the system lacks what the stack needs: %w\non Debian: apt-get install %s", why, strings.Join(missing, " "))
	}
	in.Log.Info("installing packages of the system", "packages", missing)
	install := append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)
	var err error
	for range attempts {
		if err = run(ctx, "", "apt-get", "update", "-qq"); err == nil {
			err = run(ctx, "DEBIAN_FRONTEND=noninteractive", "apt-get", install...)
		}
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("cannot install packages of the system: %w", err)
	}
	if left, why := missingTools(groups); len(left) > 0 {
		return fmt.Errorf("the system lacks what the stack needs although %s is installed: %w", strings.Join(left, " "), why)
	}
	return nil
}

func missingTools(groups []string) (packages []string, why error) {
	for _, t := range tools {
		if !slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(t.groups, g) }) {
			continue
		}
		if err := t.check(); err != nil {
			packages = append(packages, t.pkg)
			why = errors.Join(why, err)
		}
	}
	return packages, why
}
