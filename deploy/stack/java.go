package stack

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

//go:embed CatalogServer.java
var catalogServerJava string

// stackJava is the Java that Kafka, Iceberg and Spark run on together.
const stackJava = 17

// javaHome finds a JDK in JAVA_HOME or /usr/lib/jvm: stackJava itself for version
// 0, else one of at least that version.
func javaHome(version int) (string, error) {
	homes, err := filepath.Glob("/usr/lib/jvm/*")
	if err != nil {
		return "", err
	}
	if home := os.Getenv("JAVA_HOME"); home != "" {
		homes = append([]string{home}, homes...)
	}
	for _, home := range homes {
		have := javaVersion(home)
		if version == 0 && have == stackJava || version > 0 && have >= version {
			return home, nil
		}
	}
	if version == 0 {
		return "", fmt.Errorf("no JDK %d in /usr/lib/jvm or JAVA_HOME: install openjdk-%d-jdk-headless", stackJava, stackJava)
	}
	return "", fmt.Errorf("no JDK of version %d or newer in /usr/lib/jvm or JAVA_HOME", version)
}

var javaVersionLine = regexp.MustCompile(`(?m)^JAVA_VERSION="(\d+)`)

// javaVersion is the main version of a JDK, 0 where there is none.
func javaVersion(home string) int {
	if _, err := exec.LookPath(filepath.Join(home, "bin", "javac")); err != nil {
		return 0
	}
	text, err := os.ReadFile(filepath.Join(home, "release"))
	if err != nil {
		return 0
	}
	m := javaVersionLine.FindSubmatch(text)
	if m == nil {
		return 0
	}
	v, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return 0
	}
	return v
}
