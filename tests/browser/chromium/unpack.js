// Unpacks the browser and the libraries that a bare machine lacks into $TMPDIR, and prints the browser's path.
// The package unpacks its libraries only where it finds itself in AWS Lambda, so the caller sets AWS_EXECUTION_ENV.
import chromium from "@sparticuz/chromium";

console.log(await chromium.executablePath());
